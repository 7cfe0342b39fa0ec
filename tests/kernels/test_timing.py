"""Contenders are timed by graph replays with a cold cache: steps with a stand-in for CUDA, times on a GPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from unittest import mock

import pytest
import torch

from impls.launch.timing import GraphTimer

CPU = torch.device("cpu")


class StandIn:
    """Replaces ``torch.cuda``: logs the steps, and gives each replay the next of some times."""

    def __init__(self, times_ms: list[float]) -> None:
        self.log: list[str] = []
        self._times_ms = iter(times_ms)

    def get_device_properties(self, device: torch.device) -> SimpleNamespace:
        return SimpleNamespace(L2_cache_size=64)

    def synchronize(self, device: torch.device) -> None:
        self.log.append("synchronize")

    def Event(self, enable_timing: bool) -> SimpleNamespace:  # noqa: N802
        assert enable_timing
        return SimpleNamespace(
            record=lambda: self.log.append("record"),
            synchronize=lambda: self.log.append("wait"),
            elapsed_time=lambda end: next(self._times_ms),
        )

    def CUDAGraph(self) -> SimpleNamespace:  # noqa: N802
        return SimpleNamespace(replay=lambda: self.log.append("replay"))

    @contextmanager
    def graph(self, graph: SimpleNamespace) -> Iterator[None]:
        self.log.append("capture")
        yield
        self.log.append("captured")


def test_a_call_is_run_before_it_is_captured_and_captured_once() -> None:
    cuda = StandIn([0.5, 0.25, 0.75])
    with mock.patch.object(torch, "cuda", cuda):
        timer = GraphTimer(CPU)

        def call() -> None:
            cuda.log.append("call")

        assert [timer(call, CPU) for _ in range(3)] == [0.0005, 0.00025, 0.00075]
    first = ["call", "synchronize", "capture", "call", "captured", "replay", "synchronize"]
    timed = ["record", "replay", "record", "wait"]
    assert cuda.log == first + 3 * timed
    assert timer.least_us == {call: 250.0}


def test_the_cache_is_flushed_before_each_replay() -> None:
    """What is written and what is read are two buffers, each twice the cache."""
    cuda = StandIn([1.0])
    with mock.patch.object(torch, "cuda", cuda):
        timer = GraphTimer(CPU)
        assert timer._written.nbytes == timer._read.nbytes == 2 * 64
        timer._written.fill_(1)
        timer(lambda: None, CPU)
        assert not timer._written.any()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_more_bytes_take_longer() -> None:
    device = torch.device("cuda")
    small, large = (torch.zeros(elements, device=device) for elements in (1 << 20, 1 << 27))
    timer = GraphTimer(device)
    times_s = [min(timer(tensor.sum, device) for _ in range(5)) for tensor in (small, large)]
    assert 0 < 10 * times_s[0] < times_s[1]
