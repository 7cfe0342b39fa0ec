"""Time on CUDA with events, with a flush of the L2 cache before each sample (cold) or without one (hot)."""

from __future__ import annotations

from collections.abc import Callable

import torch

from bench.measure.samples import Samples
from bench.measure.stopping import StoppingRule, collect
from bench.measure.timers.cuda import Cuda, time_between_events, warm_up
from bench.measure.timers.quiet import quiet
from bench.measure.timers.work import Work


def time_with_events(
    work: Work,
    rule: StoppingRule,
    *,
    warmup_ms: float,
    flush: Callable[[], object] | None,
    throttled: Callable[[], bool] | None = None,
    cuda: Cuda = torch.cuda,
) -> Samples:
    """Time calls on the first copy, one between each pair of events, on the current CUDA device.

    Args:
        work: enqueues the work. Its inputs are on the device.
        rule: when to stop.
        warmup_ms: how long to call it beforehand.
        flush: enqueued before each sample for a cold L2 cache. ``None`` leaves it hot.
        throttled: see ``collect``.
        cuda: ``torch.cuda``.
    """
    work = work.first()
    warm = warm_up(work, warmup_ms, cuda)

    def before() -> None:
        if flush is not None:
            flush()
        cuda._sleep(warm.head_start_cycles)

    with quiet():
        taken = collect(lambda: time_between_events(lambda: work.call(0), before, cuda), rule, throttled)
    return Samples(
        values_us=taken.values,
        timer="events",
        l2_mode="hot" if flush is None else "cold",
        stop=taken.stop,
        calls_per_sample=1,
        copies=1,
        warmup_calls=warm.calls,
        enqueue_us=warm.enqueue_us,
        discarded_ratio=taken.discarded_ratio,
    )
