"""Timers on the host and on CUDA. They return samples."""
