"""Calibrate the harness on this machine: resolution, overhead and agreement of timers, bandwidth of memory."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise, product
from typing import Any

import numpy as np
import torch

from bench.config import MeasureConfig
from bench.measure.ceiling import FLOAT_BYTES, gbps, read_bytes, time_reads
from bench.measure.intervals import median_interval
from bench.measure.samples import Samples
from bench.measure.timers.choice import TimerChoice
from bench.measure.timers.timing import Timer
from bench.measure.timers.work import Work
from impls.interface import Unsupported

TARGETS_US = (5.0, 50.0, 500.0, 5000.0)
"""Durations of the work on which the timers are compared."""

RESOLUTION_READINGS = 10_000
EVENT_BATCHES = 50


def calibrate(device: torch.device, measure: MeasureConfig, *, runs: int) -> dict[str, Any]:
    """Return all calibration results of one device.

    Args:
        device: the device that does the timed work.
        measure: the stopping rule, and the bytes of the ceilings.
        runs: timings of identical work per timer and duration, for the noise floor.
    """
    ceilings = measure_ceilings(device, measure)
    works = list(works_of(device, ceilings["read_gbps"]))
    timers = list(usable_timers(device))
    noise = [
        _noise(timer, target_us, work, device, measure, runs) for (target_us, work), timer in product(works, timers)
    ]
    return {
        "device": device.type,
        "timers": timers,
        "resolution_us": {timer: resolution_us(timer) for timer in timers},
        "overhead_us": {timer: _overhead_us(timer, device, measure) for timer in timers},
        "ceilings": ceilings,
        "noise": noise,
        "agreement": agreement(noise),
    }


def usable_timers(device: torch.device) -> Iterator[str]:
    """Yield the names of the timers that work on this device."""
    if device.type != "cuda":
        yield "perf_counter"
        return
    yield from ("events", "graph")
    from bench.measure.timers.cupti import load_cupti

    try:
        load_cupti()
    except Unsupported:
        return
    yield "cupti"


def resolution_us(timer: str) -> float | None:
    """Return the smallest step of the timer's clock in microseconds, or ``None`` if no step was seen."""
    if timer == "perf_counter":
        readings = [time.perf_counter_ns() / 1000 for _ in range(RESOLUTION_READINGS)]
        steps = [after - before for before, after in pairwise(readings)]
    elif timer in ("events", "graph"):
        from bench.measure.timers.cuda import time_between_events

        nothing: Callable[[], None] = lambda: None  # noqa: E731
        taken = [time_between_events(nothing, nothing, torch.cuda) for _ in range(EVENT_BATCHES)]
        steps = np.diff(np.unique(taken)).tolist()
    else:
        return 0.001  # CUPTI's time stamps are whole nanoseconds
    return min((step for step in steps if step > 0), default=None)


def measure_ceilings(device: torch.device, measure: MeasureConfig) -> dict[str, float]:
    """Return the bandwidth in 10⁹ bytes/s of the best reading kernel, and of a copy (bytes read and written)."""
    data = torch.ones(read_bytes(measure, device) // FLOAT_BYTES, dtype=torch.float32, device=device)
    timer = _timer("events" if device.type == "cuda" else "perf_counter", device, measure)
    read_gbps = max(gbps(data, samples) for samples in time_reads(data, measure).values())
    half = len(data) // 2
    copy = Work.of_one(lambda: data[:half].copy_(data[half : 2 * half]), data)
    copy_us = _median_us(timer.device_work(copy))
    return {"read_gbps": read_gbps, "copy_gbps": 2 * half * FLOAT_BYTES / copy_us / 1000}


def works_of(device: torch.device, read_gbps: float) -> Iterator[tuple[float, Work]]:
    """Yield reductions whose predicted duration (bytes read / ceiling) is each of ``TARGETS_US``."""
    for target_us in TARGETS_US:
        data = torch.ones(max(1, int(target_us * read_gbps * 1000 / 4)), dtype=torch.float32, device=device)
        yield target_us, Work.of_one(data.sum, data)


def agreement(noise: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return, per duration, the median of each timer over the median of the first timer."""
    first = {entry["target_us"]: entry["median_us"] for entry in reversed(noise)}
    ratios = [entry["median_us"] / first[entry["target_us"]] for entry in noise]
    return [
        {"target_us": entry["target_us"], "timer": entry["timer"], "ratio": ratio}
        for entry, ratio in zip(noise, ratios, strict=True)
    ]


def noise_floor(medians_us: Sequence[float]) -> float:
    """Return how much two timings of identical work differ: the 95th percentile of the log ratios of all pairs.

    >>> noise_floor([10.0, 10.0, 10.0])
    0.0
    """
    logs = [math.log(median) for median in medians_us]
    differences = [abs(a - b) for index, a in enumerate(logs) for b in logs[:index]]
    return float(np.quantile(differences, 0.95))


def _noise(
    timer_name: str, target_us: float, work: Work, device: torch.device, measure: MeasureConfig, runs: int
) -> dict[str, Any]:
    timer = _timer(timer_name, device, measure, target_us)
    medians_us = [_median_us(timer.device_work_hot(work) or timer.device_work(work)) for _ in range(runs)]
    return {
        "timer": timer_name,
        "target_us": target_us,
        "bytes": work.bytes_per_call,
        "runs": runs,
        "median_us": float(np.median(medians_us)),
        "aa_floor_ratio": noise_floor(medians_us),
        "medians_us": medians_us,
    }


def _overhead_us(timer_name: str, device: torch.device, measure: MeasureConfig) -> float | None:
    """Return what the timer reports for no work. A graph and CUPTI cannot time an empty call."""
    if timer_name in ("graph", "cupti"):
        return None
    timer = _timer(timer_name, device, measure)
    return _median_us(timer.device_work_hot(Work.of_one(_nothing)) or timer.device_work(Work.of_one(_nothing)))


def _nothing() -> None:
    pass


def _timer(name: str, device: torch.device, measure: MeasureConfig, predicted_us: float | None = None) -> Timer:
    choice = TimerChoice(timer=name, reason="calibration", predicted_us=predicted_us)
    return Timer(replace(measure, timer=name), device, choice)


def _median_us(samples: Samples) -> float:
    return median_interval(samples.values_us).median
