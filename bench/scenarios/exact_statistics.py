"""Means and percentiles of whole numbers: each result is a quotient of two integers, divided once.

Floating-point sums differ in the last bit between processors, NumPy versions and Python versions (``sum`` of floats
compensates from Python 3.12 on). Integers have no rounding, and Python rounds ``int / int`` correctly.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

TICKS: Final = 2**64
"""A fraction is kept as a whole number of this part of its unit, so that fractions can be summed as integers."""


def ticks(numerator: int, denominator: int) -> int:
    """Return a fraction in units of ``1 / TICKS``, rounded down.

    >>> ticks(3, 4) * 4 == 3 * TICKS
    True
    """
    return numerator * TICKS // denominator


def mean(values: Sequence[int], unit: int) -> float:
    """Return the mean of whole numbers in multiples of ``unit``.

    >>> mean([1, 2, 6], unit=10)
    0.3
    """
    return sum(values) / (len(values) * unit)


def quantile(ascending: Sequence[int], part: int, whole: int) -> int:
    """Return ``whole`` times the quantile ``part / whole``, linear between order statistics.

    With n values the quantile is at place ``part / whole * (n - 1)``, counted from 0. This is the default of
    ``numpy.quantile``.

    Args:
        ascending: whole numbers, sorted, at least one.
        part: 0 to ``whole``.
        whole: positive.

    >>> quantile([0, 10, 40], 3, 4)
    100
    """
    place, rest = divmod(part * (len(ascending) - 1), whole)
    above = ascending[place + 1] if rest else 0
    return ascending[place] * (whole - rest) + above * rest


def percentile(ascending: Sequence[int], percent: int, unit: int) -> float:
    """Return a percentile in multiples of ``unit``, linear between order statistics.

    >>> percentile([0, 10, 40], 75, unit=10)
    2.5
    """
    return quantile(ascending, percent, 100) / (100 * unit)


def weighted_percentile(ascending: NDArray[np.int64], weights: NDArray[np.int64], percent: int) -> int:
    """Return the smallest value for which the weight up to it is at least ``percent`` of the total weight.

    Args:
        ascending: ``[n]``, whole numbers, sorted, at least one.
        weights: int64 ``[n]``, positive.
        percent: 0 to 100.
    """
    reached = np.cumsum(weights)
    return int(ascending[np.searchsorted(100 * reached, percent * reached[-1])])
