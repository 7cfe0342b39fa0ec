"""A/B rounds of two checkouts that take turns."""
