"""Choose the part of a trace that is replayed, and spread requests that share a time stamp."""

from __future__ import annotations

import numpy as np

from bench.config import TraceWorkload
from bench.workload.arrivals import Times
from bench.workload.request_columns import Requests
from bench.workload.streams import Stream, generator
from bench.workload.traces.files import TraceError


def without_start(requests: Requests, workload: TraceWorkload) -> Requests:
    """Return the requests without the first ``skip_s`` seconds, then without the earliest ``skip_requests``.

    Raises:
        TraceError: the trace has no arrival times but ``skip_s`` is set, or no request remains.
    """
    if not workload.skip_s and not workload.skip_requests:
        return requests
    times = requests.arrivals_s
    if times is None and workload.skip_s:
        raise TraceError(f"workload.skip_s={workload.skip_s:g} must be 0: workload.path={workload.path} has no arrival "
                         "times. workload.skip_requests skips without them")  # fmt: skip
    order = np.arange(len(requests)) if times is None else np.argsort(times, kind="stable")
    if times is not None:
        order = order[times[order] >= times.min() + workload.skip_s]
    kept = np.sort(order[workload.skip_requests :])
    if not len(kept):
        raise TraceError(f"workload.skip_s={workload.skip_s:g} and workload.skip_requests={workload.skip_requests} "
                         f"leave none of the {len(requests)} requests of workload.path={workload.path}")  # fmt: skip
    return requests.take(kept)


def shared_stamps(times: Times) -> int:
    """Return how many requests share their time stamp with another.

    >>> shared_stamps(np.array([0.0, 0.0, 1.0, 2.0, 2.0, 2.0]))
    5
    """
    counts = np.unique(times, return_counts=True)[1]
    return int(counts[counts > 1].sum())


def spread(times: Times, how: str, seed: int) -> Times:
    """Return arrival times with requests of one stamp spread over its tick, in their order.

    A tick is the smallest difference between two stamps, because a stamp of whole seconds stands for a second.

    Args:
        times: ascending seconds.
        how: ``none``, ``even`` (equal gaps) or ``drawn`` (uniform in the tick).
        seed: seed of ``drawn``.

    >>> spread(np.array([0.0, 0.0, 1.0, 5.0, 5.0]), "even", 0).tolist()
    [0.0, 0.5, 1.0, 5.0, 5.5]
    """
    stamps, counts = np.unique(times, return_counts=True)
    if how == "none" or len(stamps) == len(times):
        return times
    tick = float(np.diff(stamps).min()) if len(stamps) > 1 else 1.0
    firsts = np.repeat(np.cumsum(counts) - counts, counts)  # position of the first request of each one's stamp
    if how == "even":
        offsets = (np.arange(len(times)) - firsts) / np.repeat(counts, counts)
    else:
        offsets = generator(seed, Stream.TICKS).random(len(times))
    return np.sort(times + tick * offsets)
