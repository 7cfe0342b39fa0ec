"""Time on CUDA with one graph of many calls that rotate among copies of the inputs (cold) or use one (hot)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from bench.measure.samples import Samples
from bench.measure.stopping import StoppingRule, collect
from bench.measure.timers.cuda import Cuda, time_between_events, warm_up
from bench.measure.timers.quiet import quiet
from bench.measure.timers.work import Work, check_rotation


class NotCapturable(RuntimeError):
    """The work cannot be captured in a CUDA graph. The message gives the reason."""


def time_with_graph(
    work: Work,
    rule: StoppingRule,
    *,
    warmup_ms: float,
    calls: int,
    l2_mode: str,
    throttled: Callable[[], bool] | None = None,
    cuda: Cuda = torch.cuda,
) -> Samples:
    """Time replays of a graph. A sample is the time of a replay divided by its calls.

    Args:
        work: enqueues the work. Its inputs are on the device.
        rule: when to stop.
        warmup_ms: how long to call it beforehand, outside of a graph.
        calls: calls in one graph, a multiple of the copies.
        l2_mode: ``cold`` if the copies evict one another, else ``hot``.
        throttled: see ``collect``.
        cuda: ``torch.cuda``.

    Raises:
        NotCapturable: a graph cannot contain the work.
        RotationDefeated: a call does not use the requested copy.
    """
    check_rotation(work)
    warm = warm_up(work, warmup_ms, cuda)
    graph = capture(work, calls, cuda)
    graph.replay()
    cuda.synchronize()
    with quiet():
        taken = collect(
            lambda: time_between_events(graph.replay, lambda: cuda._sleep(warm.head_start_cycles), cuda),
            rule,
            throttled,
        )
    return Samples(
        values_us=[value / calls for value in taken.values],
        timer="graph",
        l2_mode=l2_mode,
        stop=taken.stop,
        calls_per_sample=calls,
        copies=len(work.copies),
        warmup_calls=warm.calls + calls,
        enqueue_us=warm.enqueue_us,
        discarded_ratio=taken.discarded_ratio,
    )


def capture(work: Work, calls: int, cuda: Cuda = torch.cuda) -> Any:
    """Return a ``torch.cuda.CUDAGraph`` of ``calls`` calls that rotate among the copies.

    The work must have run before, because compiling and loading cannot be captured.

    Raises:
        NotCapturable: a graph cannot contain the work.
    """
    graph = cuda.CUDAGraph()
    try:
        with cuda.graph(graph):
            for index in range(calls):
                work.call(index % len(work.copies))
    except torch.OutOfMemoryError:
        raise  # not NotCapturable: the caller has a status for it
    except RuntimeError as error:
        raise NotCapturable(str(error).strip().splitlines()[0] if str(error).strip() else "no message") from error
    return graph
