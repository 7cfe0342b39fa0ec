"""Compare two runs. The comparison is a pure function of two tables, and ``output`` formats it.

This room must not import torch, triton, Hydra or ``bench.scenarios``.

``side`` and ``load`` read the data of the two runs. ``verdicts`` has the rules: ``rules``, ``join``, ``exact``,
``noisy`` and ``estimates``, which ``comparison`` combines.
"""

from bench.compare.side import Side
from bench.compare.verdicts.comparison import Comparison, compare
from bench.compare.verdicts.rules import Rules

__all__ = ["Comparison", "Rules", "Side", "compare"]
