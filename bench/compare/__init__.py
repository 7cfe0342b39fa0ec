"""Comparing two runs: a pure function of two tables, then forms of what it found.

``side`` and ``load``: what is compared. ``rules``, ``join``, ``exact``, ``noisy``, ``estimates``:
the verdicts. ``comparison``: all of it together.
"""

from bench.compare.side import Side
from bench.compare.verdicts.comparison import Comparison, compare
from bench.compare.verdicts.rules import Rules

__all__ = ["Comparison", "Rules", "Side", "compare"]
