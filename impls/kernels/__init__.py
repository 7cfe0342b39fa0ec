"""The Triton kernels and the arithmetic of their launch. No other package imports Triton."""
