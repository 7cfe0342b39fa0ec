"""Times kernels that compute the same thing, as a decode step meets them: with a cold L2 cache."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

_Call = Callable[[], object]
_FLUSHED_L2_SIZES = 2


class GraphTimer:
    """Times calls on a CUDA device by replays of CUDA graphs.

    A replay is one launch, so that the host's time to launch kernels does not count. Before each
    replay the L2 cache is flushed. Two buffers of twice its size each are used: one is written, the
    other one is read, because a write alone leaves lines that are written back during the timing.

    Args:
        device: a CUDA device.

    Attributes:
        least_us: the least time of each call, in microseconds.
    """

    def __init__(self, device: torch.device) -> None:
        elements = _FLUSHED_L2_SIZES * torch.cuda.get_device_properties(device).L2_cache_size // 4
        self._written, self._read = torch.zeros((2, max(elements, 1)), dtype=torch.int32, device=device)
        self._sum: Tensor = self._read.sum()
        self._graphs: dict[_Call, torch.cuda.CUDAGraph] = {}
        self.least_us: dict[_Call, float] = {}

    def __call__(self, call: _Call, device: torch.device) -> float:
        """Return the seconds of one replay. The first time, compile and capture the call before.

        Args:
            call: launches kernels on the current stream and does not wait for them.
            device: the timer's.
        """
        if call not in self._graphs:
            self._graphs[call] = _capture(call, device)
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        self._written.zero_()
        torch.sum(self._read, dim=0, out=self._sum)
        start.record()
        self._graphs[call].replay()
        end.record()
        end.synchronize()
        us = 1000 * float(start.elapsed_time(end))
        self.least_us[call] = min(us, self.least_us.get(call, math.inf))
        return us / 1e6


def _capture(call: _Call, device: torch.device) -> torch.cuda.CUDAGraph:
    call()  # compiles: nothing may be loaded while a graph is captured
    torch.cuda.synchronize(device)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    graph.replay()  # the first replay also uploads the graph
    torch.cuda.synchronize(device)
    return graph
