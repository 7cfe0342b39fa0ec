"""Workloads: seeded lengths and arrival times, published traces and page layouts, all as NumPy arrays.

This room must not import torch, triton or Hydra.
"""
