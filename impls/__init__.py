"""Interchangeable KV caches: policies, storage, attention."""
