"""Compare two runs: a pure function of two tables, then output formats of the result.

``side`` and ``load``: the compared data. ``rules``, ``join``, ``exact``, ``noisy``, ``estimates``:
the verdicts. ``comparison``: all of it together.
"""

from bench.compare.side import Side
from bench.compare.verdicts.comparison import Comparison, compare
from bench.compare.verdicts.rules import Rules

__all__ = ["Comparison", "Rules", "Side", "compare"]
