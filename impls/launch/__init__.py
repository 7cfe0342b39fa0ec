"""Launches the Triton kernels: tiles, splits and tuning."""
