"""Figures of the PagedAttention paper and beyond it."""
