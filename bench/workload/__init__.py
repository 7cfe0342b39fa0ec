"""Workloads: seeded lengths, published traces and page layouts. NumPy only."""
