"""Timing on CUDA with one graph of many calls, on copies of the inputs in turn (cold) or on one (hot)."""

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
    """The work cannot be captured in a CUDA graph; the message says why."""


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
    """Time replays of a graph, each sample a replay divided by its calls.

    Args:
        work: enqueues the work; its inputs are on the device.
        rule: when to stop.
        warmup_ms: how long to call it beforehand, outside of a graph.
        calls: in one graph; a multiple of the copies.
        l2_mode: what the copies make of the cache.
        throttled: see ``collect``.
        cuda: ``torch.cuda``.

    Raises:
        NotCapturable: the work does what a graph cannot hold.
        RotationDefeated: a call ignores which copy it was told to work on.
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
    """A ``torch.cuda.CUDAGraph`` of ``calls`` calls that take the copies in turn.

    The work must have run before: what compiles or loads on its first call cannot be captured.

    Raises:
        NotCapturable: as said.
    """
    graph = cuda.CUDAGraph()
    try:
        with cuda.graph(graph):
            for index in range(calls):
                work.call(index % len(work.copies))
    except torch.OutOfMemoryError:
        raise  # not a lack of ability: the caller has a status for it
    except RuntimeError as error:
        raise NotCapturable(str(error).strip().splitlines()[0] if str(error).strip() else "no message") from error
    return graph
