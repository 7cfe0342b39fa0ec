"""The state of the host and the GPU while something is timed."""
