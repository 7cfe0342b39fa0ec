"""The design of the runs and its t-test: interleaved pairs (A B B A), or two separate sides.

Arrays are ``[points, runs]`` of natural logarithms. Above 0 is worse.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Floats = NDArray[np.float64]
Alternative = Literal["greater", "less"]


class Design(Protocol):
    """Runs of many points, with the same number of runs each.

    Attributes:
        values: arrays that a bootstrap resamples: paired log ratios, or logs of the candidate and of the base.
        pairs: number of runs of the side with fewer runs.
        degrees: degrees of freedom.
    """

    values: list[Floats]
    pairs: int
    degrees: int

    def take(self, rows: NDArray[np.bool_]) -> Design:
        """Return some of the points."""

    def variance(self) -> Floats:
        """Return the variance between runs of one side."""

    def error(self) -> Floats:
        """Return the standard error of the mean effect."""

    def p_value(self, effect: float, alternative: Alternative) -> Floats:
        """Return the one-sided p-value that the mean effect is at most ``effect`` (``less``: at least)."""

    def interval(self, confidence: float) -> tuple[Floats, Floats]:
        """Return the interval of the mean effect."""


class Interleaved:
    """Paired log ratios of interleaved runs: A B, B A, and so on.

    This is an AB/BA crossover. A steady drift adds to the ratio if the base ran first, and subtracts the same amount if
    the candidate ran first. Therefore the effect is the mean of the means of both orders, and scatter is taken about
    the mean of each order. This costs one degree of freedom (Hills and Armitage 1979, British Journal of Clinical
    Pharmacology 8:7-20). The p-value uses the plain pairs. Very small p-values, which many points need, depend on
    degrees of freedom far more than an interval does, and drift can only make them larger.

    Args:
        base_first: ratios of pairs in which the base ran first.
        candidate_first: ratios of the other pairs. If one order is absent, or there are only two pairs, drift cannot be
            estimated, and the pairs are one sample.
    """

    def __init__(self, base_first: Floats, candidate_first: Floats) -> None:
        self._orders = base_first, candidate_first
        self._ratios = np.concatenate(self._orders, axis=1)
        counts = base_first.shape[1], candidate_first.shape[1]
        self.pairs = sum(counts)
        self._has_both_orders = min(counts) > 0 and self.pairs > 2
        if self._has_both_orders:
            drift = (base_first.mean(axis=1, keepdims=True) - candidate_first.mean(axis=1, keepdims=True)) / 2
            self.values = [np.concatenate([base_first - drift, candidate_first + drift], axis=1)]
            self.degrees, self._per_pair = self.pairs - 2, sum(1 / count for count in counts) / 4
        else:
            self.values = [self._ratios]
            self.degrees, self._per_pair = self.pairs - 1, 1 / max(self.pairs, 1)

    def take(self, rows: NDArray[np.bool_]) -> Interleaved:
        """See ``Design``."""
        return Interleaved(*(values[rows] for values in self._orders))

    def variance(self) -> Floats:
        """See ``Design``. A paired ratio has the noise of two runs, so that of one side is half of it."""
        return self._scatter() / 2

    def error(self) -> Floats:
        """See ``Design``."""
        error: Floats = np.sqrt(self._scatter() * self._per_pair)
        return error

    def p_value(self, effect: float, alternative: Alternative) -> Floats:
        """See ``Design``."""
        with _small_differences():
            return np.asarray(stats.ttest_1samp(self._ratios, effect, axis=1, alternative=alternative).pvalue)

    def interval(self, confidence: float) -> tuple[Floats, Floats]:
        """See ``Design``."""
        with _small_differences():
            if not self._has_both_orders:
                plain: Any = stats.ttest_1samp(self._ratios, 0.0, axis=1).confidence_interval(confidence)
                return plain.low, plain.high
            # The difference of the means of both orders, the second with its sign changed, is twice the effect.
            base_first, candidate_first = self._orders
            twice: Any = stats.ttest_ind(base_first, -candidate_first, axis=1).confidence_interval(confidence)
            return twice.low / 2, twice.high / 2

    def _scatter(self) -> Floats:
        values = self.values[0]
        scatter: Floats = ((values - values.mean(axis=1, keepdims=True)) ** 2).sum(axis=1) / self.degrees
        return scatter


class Apart:
    """Two sides that were not interleaved. They are compared by Welch's test.

    Args:
        candidate: logs of the runs of the candidate.
        base: logs of the runs of the base.
    """

    def __init__(self, candidate: Floats, base: Floats) -> None:
        self.values = [candidate, base]
        self.pairs = min(values.shape[1] for values in self.values)
        self.degrees = sum(values.shape[1] - 1 for values in self.values)

    def take(self, rows: NDArray[np.bool_]) -> Apart:
        """See ``Design``."""
        return Apart(*(values[rows] for values in self.values))

    def variance(self) -> Floats:
        """See ``Design``. This is the mean of both sides."""
        mean: Floats = np.mean(self._variances(), axis=0)
        return mean

    def error(self) -> Floats:
        """See ``Design``."""
        parts = [v / values.shape[1] for v, values in zip(self._variances(), self.values, strict=True)]
        error: Floats = np.sqrt(np.sum(parts, axis=0))
        return error

    def p_value(self, effect: float, alternative: Alternative) -> Floats:
        """See ``Design``."""
        p: Floats = self._t_test(effect, alternative).pvalue
        return p

    def interval(self, confidence: float) -> tuple[Floats, Floats]:
        """See ``Design``."""
        found = self._t_test(0.0, "two-sided").confidence_interval(confidence)
        return found.low, found.high

    def _variances(self) -> list[Floats]:
        return [values.var(axis=1, ddof=1) for values in self.values]

    def _t_test(self, effect: float, alternative: Any) -> Any:
        with _small_differences():
            candidate, base = self.values
            return stats.ttest_ind(candidate - effect, base, axis=1, equal_var=False, alternative=alternative)


@contextlib.contextmanager
def _small_differences() -> Iterator[None]:
    """Ignore scipy's warning about lost precision for nearly equal runs, which the floor makes harmless."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Precision loss occurred", RuntimeWarning)
        yield
