"""The timers and probes on a real GPU: work of known length, ratios only."""

from __future__ import annotations

import statistics
from typing import Any

import pytest
import torch

from bench.config import build
from bench.measure.machine.telemetry import Telemetry
from bench.measure.memory.probe import MemoryProbe, pids_on_gpus
from bench.measure.stopping import StoppingRule
from bench.measure.timers.choice import TimerChoice
from bench.measure.timers.cuda import L2Flush
from bench.measure.timers.events import time_with_events
from bench.measure.timers.graph import capture, time_with_graph
from bench.measure.timers.timing import Timer
from bench.measure.timers.work import RotationDefeated, Work, check_rotation
from tests.support.points import values as composed

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
RULE = StoppingRule(min_samples=20, max_s=0.5, rel_half_width=0.01)
MIB = 2**20


def sleeping(cycles: int) -> Work:
    return Work.of_one(lambda: torch.cuda._sleep(cycles))


def timed(timer: str, work: Work) -> Any:
    if timer == "events":
        return time_with_events(work, RULE, warmup_ms=5, flush=None)
    return time_with_graph(work, RULE, warmup_ms=5, calls=8, l2_mode="hot")


@pytest.mark.parametrize("timer", ["events", "graph"])
def test_four_times_the_sleep_takes_four_times_as_long(timer: str) -> None:
    short, long = (statistics.median(timed(timer, sleeping(cycles)).values_us) for cycles in (200_000, 800_000))
    assert long / short == pytest.approx(4, rel=0.1)


def test_events_and_graph_agree_on_long_work() -> None:
    events, graph = (statistics.median(timed(timer, sleeping(1_000_000)).values_us) for timer in ("events", "graph"))
    assert graph / events == pytest.approx(1, rel=0.1)


def test_rotated_copies_are_colder_than_one() -> None:
    device = torch.device("cuda")
    l2_bytes = torch.cuda.get_device_properties(device).L2_cache_size
    each = l2_bytes // 8
    copies = [(torch.zeros(each // 4, device=device).normal_(),) for _ in range(48)]
    for copy in copies[1:]:
        copy[0].copy_(copies[0][0])
    work = Work(call=lambda index: copies[index][0].sum(), copies=copies, bytes_per_call=each)
    cold = time_with_graph(work, RULE, warmup_ms=5, calls=48, l2_mode="cold")
    hot = time_with_graph(work.first(), RULE, warmup_ms=5, calls=48, l2_mode="hot")
    assert statistics.median(cold.values_us) > statistics.median(hot.values_us)


def test_a_closure_over_one_copy_is_refused_on_the_device() -> None:
    copies = [(torch.ones(1024, device="cuda"),) for _ in range(3)]
    with pytest.raises(RotationDefeated):
        check_rotation(Work(call=lambda index: copies[0][0].sum(), copies=copies, bytes_per_call=4096))


def test_the_flush_makes_a_read_slower() -> None:
    device = torch.device("cuda")
    data = torch.ones(torch.cuda.get_device_properties(device).L2_cache_size // 16, device=device)
    work = Work.of_one(data.sum, data)
    cold = time_with_events(work, RULE, warmup_ms=5, flush=L2Flush(device))
    hot = time_with_events(work, RULE, warmup_ms=5, flush=None)
    assert statistics.median(cold.values_us) > statistics.median(hot.values_us)


def test_waiting_for_the_host_cannot_be_captured() -> None:
    from bench.measure.timers.graph import NotCapturable

    data = torch.ones(8, device="cuda")
    with pytest.raises(NotCapturable):
        capture(Work.of_one(lambda: data.sum().item()), 1)
    assert float(data.sum()) == 8, "the device is as usable as before"


def test_a_watched_block_on_the_device() -> None:
    measure = build(composed("measure=quick")).measure
    device = torch.device("cuda")
    timer = Timer(measure, device, TimerChoice(timer="events", reason="a test"), Telemetry.of(device))
    samples = timer.device_work(sleeping(100_000))
    assert samples.l2_mode == "cold"
    assert set(samples.telemetry) == {"before", "after"}


def test_allocated_bytes_show_on_every_available_level() -> None:
    device = torch.device("cuda")
    known = pids_on_gpus()
    torch.ones(1, device=device)
    probe = MemoryProbe(device, known_pids=known)
    held = torch.ones(256 * MIB, dtype=torch.int8, device=device)
    reading = probe.read()
    assert held.nbytes == 256 * MIB
    assert reading.values["torch_allocated_peak_bytes"] >= 256 * MIB
    for level in ("process_memory_rise_bytes", "device_memory_bytes"):
        if level in reading.values:
            assert 256 * MIB <= reading.values[level] < 512 * MIB
        else:
            assert reading.null_reasons[level]
