"""Scenarios of memory management: capacity, churn, lengths and the prefix cache."""
