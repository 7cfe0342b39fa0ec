"""Scenarios with tensors: decode, prefill and swap."""
