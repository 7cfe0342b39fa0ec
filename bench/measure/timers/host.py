"""Timing on the host with ``perf_counter``."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator

from bench.measure.samples import Samples
from bench.measure.stopping import Collected, StoppingRule, collect
from bench.measure.timers.in_turn import collect_in_turn
from bench.measure.timers.quiet import quiet
from bench.measure.turns import turns_of_process

MIN_SAMPLE_US = 1000.0
"""Calls are batched until one sample is at least this long, so that the resolution of the clock does not matter."""

TRIALS = 2
"""Batches that are timed to find how many calls fill a sample."""


def time_on_host(
    call: Callable[[], object],
    rule: StoppingRule,
    *,
    warmup_ms: float,
    wait: Callable[[], object] | None = None,
    after_sample: Callable[[], None] | None = None,
) -> Samples:
    """Time ``call``.

    Args:
        call: the work, its inputs built outside.
        rule: when to stop.
        warmup_ms: how long to call it beforehand.
        wait: called before each reading of the clock, where ``call`` returns before its work is
            done (``torch.cuda.synchronize``).
        after_sample: called after each sample, outside of the timing.
    """
    wait, after = wait or _nothing, after_sample or _nothing

    def take() -> list[float]:
        taken_us = _time_batch(call, wait, batch) / batch
        after()
        return [taken_us]

    with quiet():
        batch, warmup_calls = _calls_per_sample(call, wait, warmup_ms)
        taken = _collect(take, rule)
    return Samples(
        values_us=taken.values,
        timer="perf_counter",
        l2_mode="hot",
        stop=taken.stop,
        calls_per_sample=batch,
        copies=1,
        warmup_calls=warmup_calls,
        enqueue_us=[],
        discarded_ratio=taken.discarded_ratio,
    )


def _nothing() -> None:
    pass


def _collect(take: Callable[[], list[float]], rule: StoppingRule) -> Collected:
    turns = turns_of_process()
    return collect(take, rule) if turns is None else collect_in_turn(take, rule, turns)


def _time_batch(call: Callable[[], object], wait: Callable[[], object], batch: int) -> float:
    """Return the microseconds of ``batch`` calls."""
    wait()
    begun = time.perf_counter_ns()
    for _ in range(batch):
        call()
    wait()
    return (time.perf_counter_ns() - begun) / 1000


def _calls_per_sample(call: Callable[[], object], wait: Callable[[], object], warmup_ms: float) -> tuple[int, int]:
    """Warm up and find how many calls fill a sample. Returns that number and the calls made."""
    batch, made, began = 1, 0, time.perf_counter()
    while True:
        # The shortest of several, because one of them may have waited for another process.
        took_us = min(_time_batch(call, wait, batch) for _ in range(TRIALS))
        made += TRIALS * batch
        if took_us < MIN_SAMPLE_US:
            batch = max(batch + 1, min(10 * batch, int(batch * 1.2 * MIN_SAMPLE_US / max(took_us, 1e-3))))
        elif (time.perf_counter() - began) * 1000 >= warmup_ms:
            return batch, made


@contextlib.contextmanager
def pinned() -> Iterator[None]:
    """Pin this process to one processor, where the system allows it, for single-threaded work."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(allowed)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)
