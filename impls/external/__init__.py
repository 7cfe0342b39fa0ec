"""Code shared by the caches that call kernels of other projects."""
