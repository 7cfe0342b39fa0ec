"""When there are enough samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.intervals import median_interval

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
