"""The stopping rule: when there are enough samples."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.measure.intervals import median_interval

CONVERGED = "converged"
STABLE_NOISE = "stable_noise"
BUDGET = "budget"

NOISE_WINDOW = 4
"""Interval widths that must agree before the noise counts as stable."""

NOISE_TOLERANCE = 0.05
"""How closely they must agree, relative to their mean."""

MANY_SAMPLES = 16
"""Stable noise ends sampling only after this many times ``min_samples``."""

GROWTH = 1.25
"""Samples between two checks of the interval grow by this factor, so that checking stays cheap."""

MAX_DISCARDED_RATIO = 0.25
"""Never discard more than this. A device that is always throttled is measured throttled, and the row records it."""


@dataclass(frozen=True, kw_only=True)
class StoppingRule:
    """Stop when the median is precise, when more samples no longer help, or when the budget is spent.

    Attributes:
        min_samples: least number of samples, even if the budget is spent.
        max_s: time budget in seconds.
        rel_half_width: relative half-width at which the interval of the median is narrow enough.
    """

    min_samples: int
    max_s: float
    rel_half_width: float

    def start(self) -> StoppingState:
        """Return a new application of the rule."""
        return StoppingState(self)


class StoppingState:
    """One application of the rule."""

    def __init__(self, rule: StoppingRule) -> None:
        self.rule = rule
        self.next_look = rule.min_samples
        self.widths: list[float] = []

    def verdict(self, samples: Sequence[float], elapsed_s: float) -> str | None:
        """Return the reason to stop now, or ``None``."""
        if len(samples) < self.rule.min_samples:
            return None
        if len(samples) >= self.next_look:
            self.next_look = int(self.next_look * GROWTH) + 1
            self.widths.append(median_interval(samples).rel_half_width)
            if self.widths[-1] <= self.rule.rel_half_width:
                return CONVERGED
            if len(samples) >= MANY_SAMPLES * self.rule.min_samples and self._noise_is_stable():
                return STABLE_NOISE
        return BUDGET if elapsed_s >= self.rule.max_s else None

    def _noise_is_stable(self) -> bool:
        recent = self.widths[-NOISE_WINDOW:]
        mean = sum(recent) / len(recent)
        return len(recent) == NOISE_WINDOW and max(recent) - min(recent) <= NOISE_TOLERANCE * mean


@dataclass(frozen=True, kw_only=True)
class Collected:
    """The kept samples, the reason why sampling stopped, and the share of discarded samples."""

    values: list[float]
    stop: str
    discarded_ratio: float


def collect(
    take: Callable[[], list[float]],
    rule: StoppingRule,
    throttled: Callable[[], bool] | None = None,
    settled: Callable[[bool], bool] | None = None,
) -> Collected:
    """Take samples until the rule ends sampling.

    Args:
        take: takes some samples and returns them.
        rule: when to stop.
        throttled: called after each ``take``, outside of the timing. Returns whether to discard
            the samples just taken, up to ``MAX_DISCARDED_RATIO`` of all.
        settled: called after each ``take`` with whether the samples are enough. Returns whether
            to stop, for measurements that wait for another side. Its time does not count as budget.
    """
    values: list[float] = []
    discarded = 0
    progress, elapsed_s, stop = rule.start(), 0.0, None
    while True:
        started = time.perf_counter()
        taken = take()
        total = len(values) + discarded + len(taken)
        if throttled is not None and throttled() and discarded + len(taken) <= MAX_DISCARDED_RATIO * total:
            discarded += len(taken)
        else:
            values += taken
        elapsed_s += time.perf_counter() - started
        stop = stop or progress.verdict(values, elapsed_s)
        goes_on = settled is not None and not settled(stop is not None)
        if stop is not None and not goes_on:
            return Collected(values=values, stop=stop, discarded_ratio=discarded / (len(values) + discarded))
