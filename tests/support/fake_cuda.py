"""``torch.cuda`` as the timers use it, on a simulated clock: a device of known speed, a host that takes its time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from bench.measure.timers.cuda import CYCLES_PER_US


@dataclass
class FakeCuda:
    """A device that works through a queue. Times are microseconds.

    Attributes:
        busy_until: when the device will have done all that is enqueued.
        now: time of the host.
        refuse: what capturing raises, if anything.
    """

    busy_until: float = 0.0
    now: float = 0.0
    refuse: str | None = None
    replays: int = 0
    captured: list[float] | None = None
    enqueued: list[float] = field(default_factory=list)

    def launch(self, duration_us: float, host_us: float = 0.0) -> None:
        """Enqueue work of a known length, which takes the host some time."""
        self.now += host_us
        if self.captured is not None:
            self.captured.append(duration_us)
        else:
            self.busy_until = max(self.busy_until, self.now) + duration_us
            self.enqueued.append(duration_us)

    def synchronize(self) -> None:
        self.now = max(self.now, self.busy_until)

    def _sleep(self, cycles: int) -> None:
        self.launch(cycles / CYCLES_PER_US)

    def Event(self, *, enable_timing: bool) -> FakeEvent:  # noqa: N802
        assert enable_timing
        return FakeEvent(self)

    def CUDAGraph(self) -> FakeGraph:  # noqa: N802
        return FakeGraph(self)

    @contextlib.contextmanager
    def graph(self, graph: FakeGraph) -> Iterator[None]:
        self.captured = graph.durations
        try:
            yield
            if self.refuse:
                raise RuntimeError(self.refuse)
        finally:
            self.captured = None


class FakeEvent:
    def __init__(self, cuda: FakeCuda) -> None:
        self.cuda = cuda
        self.at_us = 0.0

    def record(self) -> None:
        self.at_us = max(self.cuda.busy_until, self.cuda.now)

    def elapsed_time(self, end: FakeEvent) -> float:
        return (end.at_us - self.at_us) / 1000


class FakeGraph:
    def __init__(self, cuda: FakeCuda) -> None:
        self.cuda = cuda
        self.durations: list[float] = []

    def replay(self) -> None:
        self.cuda.replays += 1
        self.cuda.launch(sum(self.durations))
