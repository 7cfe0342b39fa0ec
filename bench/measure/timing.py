"""One interface over the timers: which one a point uses is decided here, once."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from bench.config import MeasureConfig
from bench.measure.host import time_on_host
from bench.measure.samples import Samples
from bench.measure.stopping import StoppingRule
from impls.interface import Unsupported

if TYPE_CHECKING:
    import torch

Call = Callable[[], object]


class Timer:
    """Times calls on one device by the point's measure settings."""

    def __init__(self, measure: MeasureConfig, device: torch.device) -> None:
        on_cuda = device.type == "cuda"
        allowed = ("auto", "events") if on_cuda else ("auto", "perf_counter")
        if measure.timer not in allowed:
            raise Unsupported(f"measure.timer={measure.timer} cannot time on {device.type}; use {' or '.join(allowed)}")
        self.on_cuda = on_cuda
        self.warmup_ms = measure.warmup_ms
        self.rule = StoppingRule(
            min_samples=measure.min_samples, max_s=measure.max_s, rel_half_width=measure.rel_half_width
        )
        self._flush: Call | None = None
        if on_cuda:
            from bench.measure.events import L2Flush

            self._flush = L2Flush(device)

    def device_work(self, call: Call) -> Samples:
        """Cold L2 on CUDA; on a CPU, where nothing is flushed, hot."""
        if not self.on_cuda:
            return self.host_work(call)
        from bench.measure.events import time_with_events

        return time_with_events(call, self.rule, warmup_ms=self.warmup_ms, flush=self._flush)

    def device_work_hot(self, call: Call) -> Samples | None:
        """Hot L2 on CUDA; ``None`` on a CPU, where ``device_work`` is hot already."""
        if not self.on_cuda:
            return None
        from bench.measure.events import time_with_events

        return time_with_events(call, self.rule, warmup_ms=self.warmup_ms, flush=None)

    def host_work(self, call: Call) -> Samples:
        """Work of the host, with whatever it waits for on the device."""
        wait = None
        if self.on_cuda:
            import torch

            wait = torch.cuda.synchronize
        return time_on_host(call, self.rule, warmup_ms=self.warmup_ms, wait=wait)
