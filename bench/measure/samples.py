"""What a timer returns: every sample, and how it was taken."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Samples:
    """Samples of one quantity.

    Attributes:
        values_us: microseconds per call, in the order taken.
        timer: ``perf_counter`` or ``events``.
        l2_mode: ``cold`` if caches were flushed before each sample, else ``hot``.
        stop: ``converged``, ``stable_noise`` or ``budget``.
        calls_per_sample: calls that one sample averages over.
        enqueue_us: host time per call, where a device does the work; otherwise empty.
    """

    values_us: list[float]
    timer: str
    l2_mode: str
    stop: str
    calls_per_sample: int
    enqueue_us: list[float]

    def to_json(self) -> dict[str, Any]:
        """Plain containers, for the file of raw samples."""
        return asdict(self)
