"""Runs planned jobs: rounds, leases, progress and rows."""
