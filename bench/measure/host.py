"""Timing on the host with ``perf_counter``."""

from __future__ import annotations

import contextlib
import gc
import os
import time
from collections.abc import Callable, Iterator

from bench.measure.samples import Samples
from bench.measure.stopping import StoppingRule

MIN_SAMPLE_US = 1000.0
"""Calls are batched until one sample is at least this long: the clock must not be what is measured."""


def time_on_host(
    call: Callable[[], object], rule: StoppingRule, *, warmup_ms: float, wait: Callable[[], object] | None = None
) -> Samples:
    """Time ``call``.

    Args:
        call: the work, its inputs built outside.
        rule: when to stop.
        warmup_ms: how long to call it beforehand.
        wait: called before each reading of the clock, where ``call`` returns too early
            (``torch.cuda.synchronize``).
    """
    wait = wait or _nothing
    with quiet():
        batch = _calls_per_sample(call, wait, warmup_ms)
        values_us: list[float] = []
        progress, started, stop = rule.start(), time.perf_counter(), None
        while stop is None:
            values_us.append(_time_batch(call, wait, batch) / batch)
            stop = progress.verdict(values_us, time.perf_counter() - started)
    return Samples(
        values_us=values_us, timer="perf_counter", l2_mode="hot", stop=stop, calls_per_sample=batch, enqueue_us=[]
    )


def _nothing() -> None:
    pass


def _time_batch(call: Callable[[], object], wait: Callable[[], object], batch: int) -> float:
    """Microseconds of ``batch`` calls."""
    wait()
    begun = time.perf_counter_ns()
    for _ in range(batch):
        call()
    wait()
    return (time.perf_counter_ns() - begun) / 1000


def _calls_per_sample(call: Callable[[], object], wait: Callable[[], object], warmup_ms: float) -> int:
    """Warm up; on the way, find how many calls fill a sample."""
    batch, began = 1, time.perf_counter()
    while True:
        took_us = _time_batch(call, wait, batch)
        if took_us < MIN_SAMPLE_US:
            batch = max(batch + 1, min(10 * batch, int(batch * 1.2 * MIN_SAMPLE_US / max(took_us, 1e-3))))
        elif (time.perf_counter() - began) * 1000 >= warmup_ms:
            return batch


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No garbage collection inside; what lives now is out of its sight afterwards too."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()


@contextlib.contextmanager
def pinned() -> Iterator[None]:
    """One processor only, where the system allows it: for single-threaded work."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(allowed)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)
