"""Shared parts of the caches around kernels of other projects."""
