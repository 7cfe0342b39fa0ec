"""Timers, memory probes and the stopping rule. They return samples and readings, never summaries."""
