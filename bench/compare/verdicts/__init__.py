"""Verdicts about two tables of rows."""
