"""Choose the timer of a point once, from bytes, never from a measured time near the border."""

from __future__ import annotations

import math
from dataclasses import dataclass

from impls.interface import Unsupported
from impls.spec import ceil_div

GRAPH_BELOW_US = 50.0
"""Below this predicted time a graph of many calls replaces events (resolution about 0.5 µs)."""

COLD_L2_SIZES = 5
"""Copies of the inputs are cold when together they are this many times the L2 cache."""

GRAPH_SAMPLE_US = 1000.0
"""Predicted time of one graph of calls, long compared with the resolution of an event."""

SHORTEST_CALL_US = 2.0
"""Least time of any call, whatever its bytes. It limits the calls of a graph."""

MAX_COPIES = 2048
MAX_ROTATION_BYTES = 16 * 2**30


@dataclass(frozen=True, kw_only=True)
class TimerChoice:
    """A timer, and the reason for it.

    Attributes:
        timer: ``events``, ``graph``, ``cupti`` or ``perf_counter``.
        reason: one sentence, for the row.
        predicted_us: predicted bytes / ceiling. ``None`` without a ceiling.
        moved_bytes: bytes that ``predicted_us`` is predicted from. 0 without a prediction.
        copies: copies of the inputs to rotate among for a cold L2 cache. 1: no rotation.
    """

    timer: str
    reason: str
    predicted_us: float | None = None
    moved_bytes: int = 0
    copies: int = 1

    @property
    def graph_calls(self) -> int:
        """Calls in one graph: each copy equally often, about ``GRAPH_SAMPLE_US`` in total."""
        per_call = max(self.predicted_us or 0.0, SHORTEST_CALL_US)
        return self.copies * max(1, round(GRAPH_SAMPLE_US / per_call / self.copies))

    def graph_calls_of(self, bytes_per_call: int, copies: int) -> int:
        """Return the calls in one graph of some work, each copy equally often.

        Work that moves more bytes than the work of the prediction gets fewer calls. Otherwise a graph of a
        layer's matrix products would take 0.3 s instead of a millisecond (measured on an H200).

        Args:
            bytes_per_call: bytes that one call of the work moves.
            copies: copies of its inputs.
        """
        heavier = max(1.0, bytes_per_call / self.moved_bytes) if self.moved_bytes else 1.0
        return copies * max(1, int(self.graph_calls / heavier) // copies)


def choose_on_host(configured: str) -> TimerChoice:
    """Return the only timer on a CPU.

    Raises:
        Unsupported: another timer is configured.
    """
    if configured not in ("auto", "perf_counter"):
        raise Unsupported(f"measure.timer={configured} cannot time on a CPU. Use auto or perf_counter")
    return TimerChoice(timer="perf_counter", reason="the work is done on a CPU")


def choose_on_cuda(
    configured: str, *, moved_bytes: int, storage_bytes: int, ceiling_gbps: float | None, l2_bytes: int
) -> TimerChoice:
    """Return the timer of a point on CUDA, for all of its device work.

    Args:
        configured: ``measure.timer``.
        moved_bytes: bytes that one call must move, known beforehand.
        storage_bytes: bytes of one copy of the inputs.
        ceiling_gbps: read bandwidth in 10⁹ bytes/s. It is rounded here, so that its noise does not
            give equal points different timers.
        l2_bytes: size of the device's L2 cache.

    Raises:
        Unsupported: the configured timer cannot time this.
    """
    if configured == "perf_counter":
        raise Unsupported("measure.timer=perf_counter cannot time on cuda. Use auto, events, graph or cupti")
    predicted_us = None if ceiling_gbps is None else moved_bytes / one_digit(ceiling_gbps) / 1000
    copies = copies_needed(moved_bytes, l2_bytes)
    too_many = copies > MAX_COPIES or copies * storage_bytes > MAX_ROTATION_BYTES
    if configured == "graph" and too_many:
        raise Unsupported(f"measure.timer=graph needs {copies} copies of {storage_bytes:,} bytes for a cold L2 cache. "
                          f"The limit is {MAX_COPIES} copies and {MAX_ROTATION_BYTES:,} bytes. Use events")  # fmt: skip
    if configured == "graph":
        return TimerChoice(
            timer="graph", reason="configured", predicted_us=predicted_us, moved_bytes=moved_bytes, copies=copies
        )
    if configured != "auto":
        return TimerChoice(timer=configured, reason="configured", predicted_us=predicted_us)
    if predicted_us is None:
        return TimerChoice(timer="events", reason="no ceiling to predict the time with")
    forecast = f"predicted {predicted_us:.1f} µs = {moved_bytes:,} bytes / {one_digit(ceiling_gbps or 0):g} GB/s"
    if predicted_us >= GRAPH_BELOW_US:
        return TimerChoice(
            timer="events", reason=f"{forecast}, at least {GRAPH_BELOW_US:g} µs", predicted_us=predicted_us
        )
    if too_many:
        reason = f"{forecast}, but a cold L2 cache would need {copies} copies of {storage_bytes:,} bytes"
        return TimerChoice(timer="events", reason=reason, predicted_us=predicted_us)
    reason = f"{forecast}, below {GRAPH_BELOW_US:g} µs"
    return TimerChoice(timer="graph", reason=reason, predicted_us=predicted_us, moved_bytes=moved_bytes, copies=copies)


def copies_needed(bytes_per_call: int, l2_bytes: int) -> int:
    """Return how many copies are needed so that no call finds its own in the L2 cache.

    >>> copies_needed(20, 10), copies_needed(60, 10)
    (3, 1)
    """
    return max(1, ceil_div(COLD_L2_SIZES * l2_bytes, max(bytes_per_call, 1)))


def is_cold(copies: int, bytes_per_call: int, l2_bytes: int) -> bool:
    """Return whether copies of that size evict one another when calls rotate among them."""
    return copies * bytes_per_call >= COLD_L2_SIZES * l2_bytes


def one_digit(value: float) -> float:
    """Return the number rounded to its leading digit.

    >>> one_digit(2950.0), one_digit(18.2)
    (3000.0, 20.0)
    """
    return round(value, -math.floor(math.log10(value))) if value > 0 else value
