"""The row, its columns, and the files in which runs store rows: tables and run folders.

This room must not import torch, triton or Hydra. It must not compute results.
"""
