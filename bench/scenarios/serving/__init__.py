"""Scenario serving: continuous batching over a memory policy."""
