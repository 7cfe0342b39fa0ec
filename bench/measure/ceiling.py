"""Measure the read bandwidth of this machine in every run. Kernels are compared with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from bench.config import MeasureConfig, build
from bench.measure.intervals import median_interval
from bench.measure.samples import Samples
from bench.measure.timers.timing import Timer, choose_timer
from bench.measure.timers.work import Work
from bench.rows.result import Answer
from impls.interface import Unsupported

CUDA_FACTOR = 8
"""A GPU reads ``measure.ceiling_bytes`` so many times over. On an H200 a read of 1 GiB takes 0.25 ms. Its start and its
end alone made it 4 to 7 % slower than long attention kernels."""
CUDA_FREE_SHARE = 4
"""But at most one part in four of the memory that is free."""
FLOAT_BYTES = 4
GRANULE_BYTES = 2**20


def measure_ceiling(argument: Mapping[str, Any]) -> Answer:
    """Time several kernels that only read, with the configured timer. The best of them is the ceiling.

    ``auto`` uses events here, because no ceiling exists yet that could predict a time.

    Args:
        argument: ``config`` of any point on the device.

    Returns:
        ``ceiling_gbps`` in 10⁹ bytes/s; the samples of each kernel, by ``ceiling_<kernel>``.
    """
    config = build(argument["config"])
    device = torch.device(config.device)
    data = torch.ones(read_bytes(config.measure, device) // FLOAT_BYTES, dtype=torch.float32, device=device)
    samples = time_reads(data, config.measure)
    best_gbps = max(gbps(data, taken) for taken in samples.values())
    return Answer(
        values={"ceiling_gbps": best_gbps},
        samples={f"ceiling_{name}": taken.to_json() for name, taken in samples.items()},
    )


def time_reads(data: Tensor, measure: MeasureConfig) -> dict[str, Samples]:
    """Time each kernel that reads ``data`` once. They share the seconds of ``measure.max_s``.

    Args:
        data: contiguous float32.
        measure: the timer and the stopping rule.
    """
    reads = dict(read_kernels(data))
    shared = replace(measure, max_s=measure.max_s / len(reads))
    choice = choose_timer(measure, data.device, moved_bytes=data.nbytes, storage_bytes=data.nbytes, ceiling_gbps=None)
    timer = Timer(shared, data.device, choice)
    return {name: timer.device_work(Work.of_one(read, data)) for name, read in reads.items()}


def read_kernels(data: Tensor) -> Iterator[tuple[str, Callable[[], Tensor]]]:
    """Yield the name and the call of each kernel that can read ``data`` on its device."""
    yield "sum", data.sum
    yield "max", partial(torch.amax, data)
    if data.device.type == "cuda":
        from impls.launch.stream_read import stream_reader

        try:
            yield "stream", stream_reader(data)
        except Unsupported as reason:
            print(f"the ceiling is measured without our own kernel: {reason}", flush=True)


def gbps(data: Tensor, samples: Samples) -> float:
    """Return the bandwidth of a kernel that reads ``data`` once, in 10⁹ bytes/s."""
    return data.nbytes / median_interval(samples.values_us).median / 1000


def read_bytes(measure: MeasureConfig, device: torch.device) -> int:
    """Return the bytes that the ceiling reads: a GPU reads more, because it is faster."""
    if device.type != "cuda":
        return measure.ceiling_bytes
    free_bytes, _ = torch.cuda.mem_get_info(device)
    wanted = min(CUDA_FACTOR * measure.ceiling_bytes, free_bytes // CUDA_FREE_SHARE)
    return max(wanted // GRANULE_BYTES, 1) * GRANULE_BYTES
