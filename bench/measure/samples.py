"""The result of a timer: every sample, and how it was taken."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Samples:
    """Samples of one quantity.

    Attributes:
        values_us: microseconds per call, in the order taken, without discarded samples.
        timer: ``perf_counter``, ``events``, ``graph`` or ``cupti``.
        l2_mode: ``cold`` if no call could find its inputs in a cache, else ``hot``.
        stop: ``converged``, ``stable_noise`` or ``budget``.
        calls_per_sample: calls that one sample is the average of.
        copies: copies of the inputs that the calls rotated among.
        warmup_calls: calls before the first sample.
        enqueue_us: host time of each warm-up call but the first, where a device does the work.
            Otherwise empty. Measured on an empty queue, because a full queue makes the host wait.
        discarded_ratio: samples discarded because the clocks were throttled / samples taken.
        telemetry: state of the machine ``before`` and ``after``.
    """

    values_us: list[float]
    timer: str
    l2_mode: str
    stop: str
    calls_per_sample: int
    copies: int
    warmup_calls: int
    enqueue_us: list[float]
    discarded_ratio: float
    telemetry: Mapping[str, Any] = field(default_factory=dict)

    @property
    def launch_us(self) -> float | None:
        """Median host time to enqueue one call, microseconds. ``None`` for work of the host."""
        return statistics.median(self.enqueue_us) if self.enqueue_us else None

    @property
    def launch_bound(self) -> bool | None:
        """Whether the host takes longer to enqueue a call than the device takes to execute it."""
        return None if self.launch_us is None else self.launch_us > statistics.median(self.values_us)

    def to_json(self) -> dict[str, Any]:
        """Plain containers, for the file of raw samples."""
        return {**asdict(self), "launch_bound": self.launch_bound}
