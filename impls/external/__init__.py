"""What the caches around other projects' kernels share."""
