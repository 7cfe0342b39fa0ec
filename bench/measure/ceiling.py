"""The read bandwidth that this machine reaches, measured in every run: what a kernel is held against."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from bench.answer import Answer
from bench.config import build
from bench.intervals import median_interval
from bench.measure.timing import Timer


def measure_ceiling(argument: Mapping[str, Any]) -> Answer:
    """Time a reduction over ``measure.ceiling_bytes`` with the timer that the points use.

    Args:
        argument: ``config`` of any point on the device.

    Returns:
        ``ceiling_gbps`` in 10⁹ bytes/s.
    """
    config = build(argument["config"])
    device = torch.device(config.device)
    data = torch.ones(config.measure.ceiling_bytes // 4, dtype=torch.float32, device=device)
    samples = Timer(config.measure, device).device_work(data.sum)
    gbps = data.nbytes / median_interval(samples.values_us).median / 1000
    return Answer(values={"ceiling_gbps": gbps}, samples={"ceiling": samples.to_json()})
