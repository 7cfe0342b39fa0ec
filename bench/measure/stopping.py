"""When there are enough samples."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.measure.intervals import median_interval

CONVERGED = "converged"
STABLE_NOISE = "stable_noise"
BUDGET = "budget"

NOISE_WINDOW = 4
"""Looks at the interval that must agree before the noise counts as stable."""

NOISE_TOLERANCE = 0.05
"""How closely they must agree, relative to their mean."""

MANY_SAMPLES = 16
"""Stable noise is believed only after this many times ``min_samples``."""

GROWTH = 1.25
"""Samples between two looks grow by this factor, so that looking stays cheap."""

MAX_DISCARDED_RATIO = 0.25
"""Never throw away more than this: a device that is always throttled is measured throttled, and says so."""


@dataclass(frozen=True, kw_only=True)
class StoppingRule:
    """Stop when the median is known well, when more samples teach nothing, or when time is up.

    Attributes:
        min_samples: never fewer, whatever the budget.
        max_s: time budget in seconds.
        rel_half_width: the median's interval is narrow enough at this relative half-width.
    """

    min_samples: int
    max_s: float
    rel_half_width: float

    def start(self) -> Progress:
        """A fresh count."""
        return Progress(self)


class Progress:
    """One application of the rule."""

    def __init__(self, rule: StoppingRule) -> None:
        self.rule = rule
        self.next_look = rule.min_samples
        self.widths: list[float] = []

    def verdict(self, samples: Sequence[float], elapsed_s: float) -> str | None:
        """Why to stop now, or ``None``."""
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
    """The kept samples, why there are no more, and what share of all was thrown away."""

    values: list[float]
    stop: str
    discarded_ratio: float


def collect(
    take: Callable[[], list[float]],
    rule: StoppingRule,
    throttled: Callable[[], bool] | None = None,
    settled: Callable[[bool], bool] | None = None,
) -> Collected:
    """Take samples until the rule says stop.

    Args:
        take: takes some samples and returns them.
        rule: when to stop.
        throttled: asked after each ``take``, outside of the timing: whether the samples just
            taken are to be discarded, up to ``MAX_DISCARDED_RATIO`` of all.
        settled: told after each ``take`` whether the samples are enough, and answers whether to
            stop, where somebody else's count, too. Its time is not taken from the budget.
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
