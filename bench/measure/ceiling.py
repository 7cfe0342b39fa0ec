"""Measure the read bandwidth of this machine in every run. Kernels are compared with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from bench.config import build
from bench.measure.intervals import median_interval
from bench.measure.timers.timing import Timer, choose_timer
from bench.measure.timers.work import Work
from bench.rows.result import Answer


def measure_ceiling(argument: Mapping[str, Any]) -> Answer:
    """Time a reduction over ``measure.ceiling_bytes`` with the configured timer.

    ``auto`` uses events here, because no ceiling exists yet that could predict a time.

    Args:
        argument: ``config`` of any point on the device.

    Returns:
        ``ceiling_gbps`` in 10⁹ bytes/s.
    """
    config = build(argument["config"])
    device = torch.device(config.device)
    data = torch.ones(config.measure.ceiling_bytes // 4, dtype=torch.float32, device=device)
    choice = choose_timer(config.measure, device, moved_bytes=data.nbytes, storage_bytes=data.nbytes, ceiling_gbps=None)
    samples = Timer(config.measure, device, choice).device_work(Work.of_one(data.sum, data))
    gbps = data.nbytes / median_interval(samples.values_us).median / 1000
    return Answer(values={"ceiling_gbps": gbps}, samples={"ceiling": samples.to_json()})
