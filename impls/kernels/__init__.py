"""The Triton kernels and the arithmetic of their launch; nobody else imports Triton."""
