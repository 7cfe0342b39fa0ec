"""The timers against work of known length: on a simulated device, and on the host's own clock."""

from __future__ import annotations

import gc
import statistics
import sys
import time
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from bench.measure.samples import Samples
from bench.measure.stopping import StoppingRule
from bench.measure.timers.cupti import load_cupti, spans_us, time_with_cupti
from bench.measure.timers.events import time_with_events
from bench.measure.timers.graph import NotCapturable, capture, time_with_graph
from bench.measure.timers.host import time_on_host
from bench.measure.timers.quiet import quiet
from bench.measure.timers.timing import Timer, choose_timer, settle
from bench.measure.timers.work import Work
from impls.interface import Unsupported
from tests.support.fake_cuda import FakeCuda
from tests.support.points import values as composed

RULE = StoppingRule(min_samples=20, max_s=0, rel_half_width=0.5)


def device_work(cuda: FakeCuda, duration_us: float, *, copies: int = 1, kernels: int = 1, host_us: float = 1) -> Work:
    tensors = [(torch.ones(4),) for _ in range(copies)]

    def call(index: int) -> torch.Tensor:
        for _ in range(kernels):
            cuda.launch(duration_us / kernels, host_us / kernels)
        return tensors[index][0].sum()

    return Work(call=call, copies=tensors, bytes_per_call=16)


def test_events_see_the_device_and_not_the_host() -> None:
    cuda = FakeCuda()
    samples = time_with_events(device_work(cuda, 70.0, kernels=3), RULE, warmup_ms=0, flush=None, cuda=cuda)
    assert samples.values_us == pytest.approx([70.0] * len(samples.values_us))
    assert (samples.timer, samples.l2_mode, samples.calls_per_sample, samples.copies) == ("events", "hot", 1, 1)
    assert samples.warmup_calls >= 2
    assert len(samples.enqueue_us) == samples.warmup_calls - 1, "the first call compiles"


def test_the_flush_is_before_each_sample_and_not_in_it() -> None:
    cuda = FakeCuda()
    samples = time_with_events(device_work(cuda, 70.0), RULE, warmup_ms=0, flush=lambda: cuda.launch(900.0), cuda=cuda)
    assert samples.l2_mode == "cold"
    assert statistics.median(samples.values_us) == pytest.approx(70.0)
    assert cuda.enqueued.count(900.0) == len(samples.values_us)


def test_the_head_start_grows_with_a_slow_host() -> None:
    """Without it the device would wait for the second of two kernels, and the wait would be counted."""
    cuda = FakeCuda()

    def call(index: int) -> None:
        time.sleep(0.001)
        cuda.launch(10.0, host_us=0)
        cuda.now += 1000
        cuda.launch(10.0, host_us=0)

    slow = Work(call=call, copies=[()], bytes_per_call=0)
    samples = time_with_events(slow, RULE, warmup_ms=0, flush=None, cuda=cuda)
    assert statistics.median(samples.values_us) == pytest.approx(20.0)
    assert samples.launch_bound


def test_a_graph_divides_by_its_calls_and_takes_the_copies_in_turn() -> None:
    cuda = FakeCuda()
    seen: list[int] = []
    work = device_work(cuda, 5.0, copies=4)
    watched = Work(call=lambda i: (seen.append(i), work.call(i))[1], copies=work.copies, bytes_per_call=16)
    samples = time_with_graph(watched, RULE, warmup_ms=0, calls=12, l2_mode="cold", cuda=cuda)
    assert samples.values_us == pytest.approx([5.0] * len(samples.values_us))
    assert seen[-12:] == [0, 1, 2, 3] * 3, "captured last"
    assert (samples.timer, samples.l2_mode, samples.calls_per_sample, samples.copies) == ("graph", "cold", 12, 4)


def test_a_call_that_cannot_be_captured_is_reported() -> None:
    cuda = FakeCuda(refuse="operation not permitted when stream is capturing\nmore")
    with pytest.raises(NotCapturable, match=r"^operation not permitted when stream is capturing$"):
        capture(device_work(cuda, 1.0), 1, cuda)


def test_auto_falls_back_to_events_with_a_reason_and_graph_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    from bench.measure.timers import graph
    from bench.measure.timers.choice import TimerChoice

    def refuse(work: Work, calls: int) -> None:
        raise NotCapturable("it waits for the host")

    monkeypatch.setattr(graph, "capture", refuse)
    chosen = TimerChoice(timer="graph", reason="predicted 3 µs", copies=9)
    settled = settle(chosen, "auto", device_work(FakeCuda(), 1.0))
    assert (settled.timer, settled.copies) == ("events", 1)
    assert settled.reason == "predicted 3 µs, but it cannot be captured: it waits for the host"
    with pytest.raises(Unsupported, match=r"measure\.timer=graph: the work cannot be captured: it waits"):
        settle(chosen, "graph", device_work(FakeCuda(), 1.0))


class FakeCupti:
    """Records what the fake device does, on its clock, as the binding would hand it over."""

    ActivityKind = SimpleNamespace(CONCURRENT_KERNEL=10, MEMCPY=1, MEMSET=2)

    def __init__(self, cuda: FakeCuda) -> None:
        self.cuda, self.enabled, self.pending = cuda, set(), []
        launch = cuda.launch

        def recording(duration_us: float, host_us: float = 0.0) -> None:
            launch(duration_us, host_us)
            end = int(cuda.busy_until * 1000)
            name = "spin_kernel" if duration_us >= 200 else "decode"
            start = end - int(duration_us * 1000)
            self.pending.append(SimpleNamespace(kind=10, name=name, start=start, end=end))

        cuda.launch = recording  # type: ignore[method-assign]

    def activity_enable(self, kind: int) -> None:
        self.enabled.add(kind)

    def activity_disable(self, kind: int) -> None:
        self.enabled.remove(kind)

    def activity_register_callbacks(self, requested: Any, completed: Any) -> None:
        assert requested()[0] > 0
        self.completed = completed

    def activity_flush_all(self, flag: int) -> None:
        self.completed(self.pending)
        self.pending = []

    def get_timestamp(self) -> int:
        return int(self.cuda.now * 1000)


def test_cupti_sees_the_span_of_the_kernels_without_flush_or_head_start() -> None:
    cuda = FakeCuda()
    binding = FakeCupti(cuda)
    work = device_work(cuda, 8.0, kernels=2)
    samples = time_with_cupti(work, RULE, warmup_ms=0, flush=lambda: cuda.launch(90.0), cuda=cuda, cupti=binding)
    assert samples.values_us == pytest.approx([8.0] * len(samples.values_us))
    assert (samples.timer, samples.l2_mode) == ("cupti", "cold")
    assert not binding.enabled, "nothing records after the end"


def test_a_call_without_a_kernel_is_refused() -> None:
    with pytest.raises(RuntimeError, match="recorded no kernel"):
        spans_us([(0, 10)], [])


def test_cupti_without_its_package_is_unsupported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupti", None)
    with pytest.raises(Unsupported, match="cupti-python"):
        load_cupti()


def test_the_host_clock_against_a_known_sleep() -> None:
    """The shortest samples: a busy machine wakes a sleeper late, never early."""
    shortest = [
        min(time_on_host(lambda s=s: time.sleep(s), RULE, warmup_ms=0).values_us)  # type: ignore[misc]
        for s in (0.004, 0.016)
    ]
    assert shortest[1] / shortest[0] == pytest.approx(4, rel=0.25)


def test_short_host_work_is_batched_to_a_millisecond() -> None:
    samples = time_on_host(lambda: None, RULE, warmup_ms=1)
    assert samples.calls_per_sample * statistics.median(samples.values_us) > 500
    assert samples.warmup_calls >= samples.calls_per_sample
    assert samples.launch_bound is None


def test_garbage_collection_is_as_it_was_after_nested_quiet_blocks() -> None:
    with quiet():
        with quiet():
            assert not gc.isenabled()
        assert not gc.isenabled(), "the inner block leaves the outer one quiet"
    assert gc.isenabled()


class Watch:
    def __init__(self) -> None:
        self.log: list[str] = []

    def read(self) -> dict[str, Any]:
        self.log.append("read")
        return {"reading": len(self.log)}

    def throttled(self) -> bool:
        return False


def test_a_block_is_looked_at_before_and_after_and_never_inside() -> None:
    from bench.config import build

    measure = build(composed("measure=quick")).measure
    watch = Watch()
    cpu = torch.device("cpu")
    choice = choose_timer(measure, cpu, moved_bytes=1, storage_bytes=1, ceiling_gbps=None)
    timer = Timer(measure, cpu, choice, watch)
    samples = timer.device_work(Work.of_one(lambda: watch.log.append("call")))
    assert samples.telemetry == {"before": {"reading": 1}, "after": {"reading": len(watch.log)}}
    assert watch.log[0] == watch.log[-1] == "read"
    assert set(watch.log[1:-1]) == {"call"}
    assert isinstance(samples, Samples)
    assert timer.device_work_hot(Work.of_one(lambda: None)) is None
