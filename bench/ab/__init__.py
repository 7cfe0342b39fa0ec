"""Compare two checkouts: they run the same sweep in rounds, and take turns so that only one measures at a time.

This room must not import torch or triton: each side runs in its own process and worktree.
"""
