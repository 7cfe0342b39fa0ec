"""Shared parts of the timers on CUDA: warm-up, the L2 flush, a head start for the host."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from bench.measure.timers.work import Work

SAMPLES_PER_WAIT = 20
"""Samples enqueued before the host waits for them. The host must stay ahead of the device."""

CYCLES_PER_US = 2000
"""Upper bound of device cycles per microsecond. No data-centre GPU has a faster clock."""

MIN_HEAD_START_US = 200.0
MAX_HEAD_START_US = 20_000.0

Cuda = Any
"""``torch.cuda``, or its replacement in tests."""


class L2Flush:
    """Evicts the L2 cache of a device: writes twice its size, then reads twice its size.

    The write alone would leave dirty lines that are written back inside the next timing.
    """

    def __init__(self, device: torch.device) -> None:
        size = torch.cuda.get_device_properties(device).L2_cache_size
        self.written = torch.empty(2 * size, dtype=torch.int8, device=device)
        self.read = torch.zeros(2 * size // 4, dtype=torch.int32, device=device)

    def __call__(self) -> None:
        """Enqueue the flush."""
        self.written.zero_()
        self.read.max()


@dataclass(frozen=True, kw_only=True)
class WarmUp:
    """Result of the warm-up: number of calls, and the host time to enqueue each but the first."""

    calls: int
    enqueue_us: list[float]

    @property
    def head_start_cycles(self) -> int:
        """Device cycles to sleep before a call, so that the whole call is queued when it starts."""
        enqueue_us = 2 * statistics.median(self.enqueue_us)
        return int(CYCLES_PER_US * min(max(enqueue_us, MIN_HEAD_START_US), MAX_HEAD_START_US))


def warm_up(work: Work, warmup_ms: float, cuda: Cuda) -> WarmUp:
    """Call every copy once, then continue for ``warmup_ms``: compile, load, choose, raise the clocks."""
    enqueue_us: list[float] = []
    began = time.perf_counter()
    least = len(work.copies) + 1
    while len(enqueue_us) < least or (time.perf_counter() - began) * 1000 < warmup_ms:
        before = time.perf_counter_ns()
        work.call(len(enqueue_us) % len(work.copies))
        enqueue_us.append((time.perf_counter_ns() - before) / 1000)
        cuda.synchronize()
    return WarmUp(calls=len(enqueue_us), enqueue_us=enqueue_us[1:])


def time_between_events(enqueue: Callable[[], object], before: Callable[[], object], cuda: Cuda) -> list[float]:
    """Return device microseconds of several runs of ``enqueue``. ``before`` precedes each run and is not timed."""
    pairs = []
    for _ in range(SAMPLES_PER_WAIT):
        begin, end = cuda.Event(enable_timing=True), cuda.Event(enable_timing=True)
        before()
        begin.record()
        enqueue()
        end.record()
        pairs.append((begin, end))
    cuda.synchronize()
    return [begin.elapsed_time(end) * 1000 for begin, end in pairs]
