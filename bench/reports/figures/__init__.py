"""Figures are pure functions of the table: a selection (its CSV) and a drawing of that selection."""
