"""One interface over the timers. Every quantity of a point is timed by the timer that was chosen for the point."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from bench.config import MeasureConfig
from bench.measure.samples import Samples
from bench.measure.stopping import StoppingRule
from bench.measure.timers.choice import TimerChoice, choose_on_cuda, choose_on_host, is_cold
from bench.measure.timers.host import time_on_host
from bench.measure.timers.work import Work
from impls.interface import Unsupported

if TYPE_CHECKING:
    import torch

    from bench.measure.timers.cuda import L2Flush


class Watch(Protocol):
    """Reads the state of the machine before and after each block of samples."""

    def read(self) -> dict[str, Any]:
        """Return the state of the machine now."""

    def throttled(self) -> bool:
        """Return whether the clocks of the device are held down now."""


def choose_timer(
    measure: MeasureConfig,
    device: torch.device,
    *,
    moved_bytes: int,
    storage_bytes: int,
    ceiling_gbps: float | None,
) -> TimerChoice:
    """Return the timer of a point on this device. Arguments as for ``choose_on_cuda``.

    Raises:
        Unsupported: ``measure.timer`` cannot time this.
    """
    if device.type != "cuda":
        return choose_on_host(measure.timer)
    return choose_on_cuda(
        measure.timer,
        moved_bytes=moved_bytes,
        storage_bytes=storage_bytes,
        ceiling_gbps=ceiling_gbps,
        l2_bytes=_l2_bytes(device),
    )


def settle(choice: TimerChoice, configured: str, work: Work) -> TimerChoice:
    """Return the choice after one trial capture. ``auto`` uses events if a graph cannot contain the work.

    Raises:
        Unsupported: ``measure.timer=graph``, and the work cannot be captured.
    """
    if choice.timer != "graph":
        return choice
    from bench.measure.timers.graph import NotCapturable, capture

    work.call(0)
    try:
        capture(work.first(), calls=1)
    except NotCapturable as error:
        if configured == "graph":
            raise Unsupported(f"measure.timer=graph: the work cannot be captured: {error}") from error
        return replace(choice, timer="events", reason=f"{choice.reason}, but it cannot be captured: {error}", copies=1)
    return choice


class Timer:
    """Times calls on one device.

    Args:
        measure: when to stop.
        device: the device that does the work.
        choice: the timer, from ``choose_timer``.
        watch: read before and after each block, never inside a timing. ``None``: no telemetry.
    """

    def __init__(
        self, measure: MeasureConfig, device: torch.device, choice: TimerChoice, watch: Watch | None = None
    ) -> None:
        self.choice = choice
        self.device = device
        self.warmup_ms = measure.warmup_ms
        self.rule = StoppingRule(
            min_samples=measure.min_samples, max_s=measure.max_s, rel_half_width=measure.rel_half_width
        )
        self._watch = watch
        self._flush: L2Flush | None = None
        if choice.timer in ("events", "cupti"):
            from bench.measure.timers.cuda import L2Flush

            self._flush = L2Flush(device)

    def device_work(self, work: Work) -> Samples:
        """Time with a cold L2 cache on CUDA. On a CPU nothing is flushed, and caches are hot."""
        return self._watched(lambda: self._time(work, self._flush))

    def device_work_hot(self, work: Work) -> Samples | None:
        """Time with a hot L2 cache on CUDA. ``None`` on a CPU, where ``device_work`` is already hot."""
        if self.choice.timer == "perf_counter":
            return None
        return self._watched(lambda: self._time(work.first(), None))

    def host_work(self, call: Callable[[], object]) -> Samples:
        """Time work of the host, including its waits for the device."""
        wait = None
        if self.device.type == "cuda":
            import torch

            wait = torch.cuda.synchronize
        return self._watched(lambda: time_on_host(call, self.rule, warmup_ms=self.warmup_ms, wait=wait))

    def _time(self, work: Work, flush: Callable[[], object] | None) -> Samples:
        if self.choice.timer == "perf_counter":
            return time_on_host(
                lambda: work.call(0), self.rule, warmup_ms=self.warmup_ms, after_sample=work.after_sample
            )
        throttled = self._throttled_after(work)
        if self.choice.timer == "graph":
            from bench.measure.timers.graph import time_with_graph

            copies = len(work.copies)
            cold = is_cold(copies, work.bytes_per_call, _l2_bytes(self.device))
            return time_with_graph(
                work,
                self.rule,
                warmup_ms=self.warmup_ms,
                calls=self.choice.graph_calls_of(work.bytes_per_call, copies),
                l2_mode="cold" if cold else "hot",
                throttled=throttled,
            )
        if self.choice.timer == "cupti":
            from bench.measure.timers.cupti import time_with_cupti

            return time_with_cupti(work, self.rule, warmup_ms=self.warmup_ms, flush=flush, throttled=throttled)
        from bench.measure.timers.events import time_with_events

        return time_with_events(work, self.rule, warmup_ms=self.warmup_ms, flush=flush, throttled=throttled)

    def _throttled_after(self, work: Work) -> Callable[[], bool] | None:
        """Return the function that is called after each sample: it checks the work, then reads the clocks."""
        throttled = None if self._watch is None else self._watch.throttled
        after = work.after_sample
        if after is None:
            return throttled

        def both() -> bool:
            after()
            return throttled() if throttled is not None else False

        return both

    def _watched(self, take: Callable[[], Samples]) -> Samples:
        if self._watch is None:
            return take()
        before = self._watch.read()
        samples = take()
        return replace(samples, telemetry={"before": before, "after": self._watch.read()})


def _l2_bytes(device: torch.device) -> int:
    import torch

    return int(torch.cuda.get_device_properties(device).L2_cache_size)
