"""Attention in plain torch: chunks, gathering, SDPA and threads."""
