"""Time on CUDA by the driver's record of each kernel (optional package ``cupti-python``, 13 or later)."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple

import torch

from bench.measure.samples import Samples
from bench.measure.stopping import StoppingRule, collect
from bench.measure.timers.cuda import SAMPLES_PER_WAIT, Cuda, warm_up
from bench.measure.timers.quiet import quiet
from bench.measure.timers.work import Work
from impls.interface import Unsupported

BUFFER_BYTES = 8 * 2**20
KINDS = ("CONCURRENT_KERNEL", "MEMCPY", "MEMSET")
SLEEP_KERNEL = "spin_kernel"
"""Name of the kernel behind ``torch.cuda._sleep``, which gives the host its head start."""


class Activity(NamedTuple):
    """One piece of work on the device. Times are nanoseconds."""

    name: str
    start: int
    end: int


def load_cupti() -> Any:
    """Import and return the binding.

    Raises:
        Unsupported: it is not installed.
    """
    try:
        return importlib.import_module("cupti.cupti")
    except ImportError as error:
        raise Unsupported(
            f"measure.timer=cupti needs the package cupti-python (pip install 'cupti-python>=13'): {error}"
        ) from error


def time_with_cupti(
    work: Work,
    rule: StoppingRule,
    *,
    warmup_ms: float,
    flush: Callable[[], object] | None,
    throttled: Callable[[], bool] | None = None,
    cuda: Cuda = torch.cuda,
    cupti: Any = None,
) -> Samples:
    """Time calls on the first copy, from the start of the first kernel to the end of the last.

    The time contains gaps between kernels, but not the cost of launching.

    Args:
        work: enqueues the work. Its inputs are on the device.
        rule: when to stop.
        warmup_ms: how long to call it beforehand.
        flush: run before each sample for a cold L2 cache. ``None`` leaves it hot.
        throttled: see ``collect``.
        cuda: ``torch.cuda``.
        cupti: the binding. ``None`` loads it.

    Raises:
        Unsupported: the binding is not installed.
    """
    cupti = cupti or load_cupti()
    work = work.first()
    warm = warm_up(work, warmup_ms, cuda)
    recorder = Recorder(cupti)
    try:
        with quiet():
            taken = collect(lambda: _take(work, flush, warm.head_start_cycles, cuda, recorder), rule, throttled)
    finally:
        recorder.close()
    return Samples(
        values_us=taken.values,
        timer="cupti",
        l2_mode="hot" if flush is None else "cold",
        stop=taken.stop,
        calls_per_sample=1,
        copies=1,
        warmup_calls=warm.calls,
        enqueue_us=warm.enqueue_us,
        discarded_ratio=taken.discarded_ratio,
    )


class Recorder:
    """Collects the activities of the device from construction to ``close``."""

    def __init__(self, cupti: Any) -> None:
        self._cupti = cupti
        self._kinds = [getattr(cupti.ActivityKind, kind) for kind in KINDS]
        self._activities: list[Activity] = []
        for kind in self._kinds:
            cupti.activity_enable(kind)
        cupti.activity_register_callbacks(lambda: (BUFFER_BYTES, 0), partial(_receive, self._kinds, self._activities))

    def now(self) -> int:
        """Return the time in nanoseconds, on the scale of the activities."""
        return int(self._cupti.get_timestamp())

    def drain(self) -> list[Activity]:
        """Return all activities that have ended since the last call. The device must be idle."""
        self._cupti.activity_flush_all(1)  # include buffers that are not full
        drained = list(self._activities)
        self._activities.clear()
        return drained

    def close(self) -> None:
        """Stop recording."""
        for kind in self._kinds:
            self._cupti.activity_disable(kind)
        self._cupti.activity_flush_all(1)


def _receive(kinds: list[Any], into: list[Activity], activities: Iterable[Any]) -> None:
    for activity in activities:
        if activity.kind in kinds:
            into.append(Activity(str(getattr(activity, "name", "")), int(activity.start), int(activity.end)))


def _take(
    work: Work, flush: Callable[[], object] | None, head_start_cycles: int, cuda: Cuda, recorder: Recorder
) -> list[float]:
    windows = []
    for _ in range(SAMPLES_PER_WAIT):
        if flush is not None:
            flush()
        cuda.synchronize()
        begin = recorder.now()
        cuda._sleep(head_start_cycles)
        work.call(0)
        cuda.synchronize()
        windows.append((begin, recorder.now()))
    return spans_us(windows, recorder.drain())


def spans_us(windows: list[tuple[int, int]], activities: list[Activity]) -> list[float]:
    """Return, per window, microseconds from the first start to the last end of its work, without the sleep kernel.

    Raises:
        RuntimeError: a window has no work, so the record is incomplete.

    >>> spans_us([(0, 9000)], [Activity("spin_kernel", 10, 500), Activity("a", 500, 900), Activity("b", 950, 2500)])
    [2.0]
    """
    spans = []
    for begin, end in windows:
        inside = [a for a in activities if begin <= a.start and a.end <= end and SLEEP_KERNEL not in a.name]
        if not inside:
            raise RuntimeError("CUPTI recorded no kernel in a timed call. Another profiler may be using it")
        spans.append((max(a.end for a in inside) - min(a.start for a in inside)) / 1000)
    return spans
