"""Readings of physical memory."""
