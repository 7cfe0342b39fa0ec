"""Timing on CUDA with events, each sample after a flush of the L2 cache (cold) or without (hot)."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from bench.measure.host import quiet
from bench.measure.samples import Samples
from bench.measure.stopping import StoppingRule

SAMPLES_PER_WAIT = 20
"""Samples enqueued before the host waits for them: it must stay ahead of the device."""

HEAD_START_CYCLES = 400_000
"""Device cycles slept before each sample (about 0.2 ms), so that the call is queued when it starts."""


class L2Flush:
    """Evicts a device's L2 cache: write twice its size, then read another twice.

    The write alone would leave dirty lines, to be written back inside the next timing.
    """

    def __init__(self, device: torch.device) -> None:
        size = torch.cuda.get_device_properties(device).L2_cache_size
        self.written = torch.empty(2 * size, dtype=torch.int8, device=device)
        self.read = torch.zeros(2 * size // 4, dtype=torch.int32, device=device)

    def __call__(self) -> None:
        """Enqueue the flush."""
        self.written.zero_()
        self.read.max()


def time_with_events(
    call: Callable[[], object], rule: StoppingRule, *, warmup_ms: float, flush: Callable[[], object] | None
) -> Samples:
    """Time ``call`` on the current CUDA device.

    Args:
        call: enqueues the work; its inputs are on the device.
        rule: when to stop.
        warmup_ms: how long to call it beforehand.
        flush: enqueued before each sample for a cold L2; ``None`` leaves it hot.
    """
    _warm_up(call, warmup_ms)
    values_us: list[float] = []
    enqueue_us: list[float] = []
    progress, started, stop = rule.start(), time.perf_counter(), None
    with quiet():
        while stop is None:
            pairs = [_enqueue(call, flush, enqueue_us) for _ in range(SAMPLES_PER_WAIT)]
            torch.cuda.synchronize()
            values_us += [begin.elapsed_time(end) * 1000 for begin, end in pairs]
            stop = progress.verdict(values_us, time.perf_counter() - started)
    return Samples(
        values_us=values_us,
        timer="events",
        l2_mode="hot" if flush is None else "cold",
        stop=stop,
        calls_per_sample=1,
        enqueue_us=enqueue_us,
    )


def _warm_up(call: Callable[[], object], warmup_ms: float) -> None:
    began = time.perf_counter()
    call()
    torch.cuda.synchronize()
    while (time.perf_counter() - began) * 1000 < warmup_ms:
        call()
        torch.cuda.synchronize()


def _enqueue(
    call: Callable[[], object], flush: Callable[[], object] | None, enqueue_us: list[float]
) -> tuple[torch.cuda.Event, torch.cuda.Event]:
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    if flush is not None:
        flush()
    torch.cuda._sleep(HEAD_START_CYCLES)
    begin.record()
    before = time.perf_counter_ns()
    call()
    enqueue_us.append((time.perf_counter_ns() - before) / 1000)
    end.record()
    return begin, end
