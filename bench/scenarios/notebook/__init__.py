"""Scenario notebook."""
