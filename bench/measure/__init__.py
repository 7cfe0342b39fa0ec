"""Timers, memory probes and the stopping rule. They return samples and readings, and never summaries.

This room must not import Hydra, triton or ``bench.scenarios``. It does not decide what is measured.
"""
