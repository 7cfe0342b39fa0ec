"""Summaries of samples, computed by scipy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

CONFIDENCE = 0.95


class Interval(NamedTuple):
    """A median and the order-statistic interval around it."""

    low: float
    median: float
    high: float

    @property
    def rel_half_width(self) -> float:
        """Half the width of the interval, divided by the median."""
        return (self.high - self.low) / 2 / self.median if self.median else float("inf")


def median_interval(samples: Sequence[float]) -> Interval:
    """Return the median and its distribution-free interval at ``CONFIDENCE``.

    With fewer than six samples no such interval exists, and [min, max] is returned.

    Raises:
        ValueError: no samples.

    >>> median_interval([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0])
    Interval(low=1.0, median=4.5, high=8.0)
    """
    if not len(samples):
        raise ValueError("a median needs at least one sample")
    values = np.asarray(samples, dtype=float)
    interval: Any = stats.quantile_test(values, q=float(np.median(values)), p=0.5).confidence_interval(CONFIDENCE)
    low, high = float(interval.low), float(interval.high)
    return Interval(
        low=float(values.min()) if np.isnan(low) else low,
        median=float(np.median(values)),
        high=float(values.max()) if np.isnan(high) else high,
    )


def rel_spread(samples: Sequence[float]) -> float:
    """Return the interquartile range over the median, a spread that outliers do not affect.

    >>> rel_spread([1.0, 2.0, 3.0, 4.0, 5.0])
    0.6666666666666666
    """
    return float(stats.iqr(samples) / np.median(samples))
