"""The read ceiling is the best of several kernels that only read."""

from __future__ import annotations

import pytest
import torch

from bench.config import MeasureConfig
from bench.measure.ceiling import gbps, measure_ceiling, read_bytes, time_reads
from bench.measure.intervals import median_interval
from tests.support.points import Composed, plan_of

BYTES = 2**20
MEASURE = MeasureConfig(
    name="test", timer="auto", warmup_ms=0, min_samples=5, max_s=0, rel_half_width=0.5, ceiling_bytes=BYTES
)


def test_a_cpu_reads_what_the_configuration_states() -> None:
    assert read_bytes(MEASURE, torch.device("cpu")) == BYTES


def test_each_kernel_is_timed_and_its_bandwidth_counts_every_byte_once() -> None:
    data = torch.ones(BYTES // 4)
    samples = time_reads(data, MEASURE)
    assert set(samples) == {"sum", "max"}
    for taken in samples.values():
        assert gbps(data, taken) == pytest.approx(BYTES / median_interval(taken.values_us).median / 1000)


def test_the_ceiling_is_the_best_of_them() -> None:
    config = plan_of(Composed("measure=quick", f"measure.ceiling_bytes={BYTES}")).points[0].config
    answer = measure_ceiling({"config": config.to_json()})
    medians = [median_interval(taken["values_us"]).median for taken in answer.samples.values()]
    assert set(answer.samples) == {"ceiling_sum", "ceiling_max"}
    assert answer.values["ceiling_gbps"] == pytest.approx(BYTES / min(medians) / 1000)
