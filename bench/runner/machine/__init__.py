"""Facts about the machine and the checkout, and the GPU lock."""
