"""Notes about a load that a plan prints: repeats, requests of one time stamp, and a window of low load."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np

from bench.config import Config, TraceWorkload
from bench.config.numbers import number_text, percent_text
from bench.config.serving import ServingScenario
from bench.scenarios.serving.load import make_load, whole_trace
from bench.workload.replay_window import shared_stamps

LOW_LOAD: Final = 0.5
"""Requests per second in the replayed window / in the whole trace, below which the plan has a note."""

SHARED: Final = 0.5
"""Share of requests with a time stamp of another request, above which the plan has a note."""


def replay_notes(config: Config) -> list[str]:
    """Return a sentence for each property of a replayed trace that can mislead. Empty for other points."""
    scenario, workload = config.scenario, config.workload
    if not (isinstance(scenario, ServingScenario) and isinstance(workload, TraceWorkload)):
        return []
    load = make_load(config)
    if scenario.arrivals != "trace":
        return [_repeats(load.repeated, len(load), workload)] if load.repeated else []
    notes = []
    if load.unordered:
        notes.append(
            f"{load.unordered} requests of the trace are out of order: requests are sorted by their time of arrival"
        )
    times = whole_trace(replace(workload, skip_s=0.0, skip_requests=0)).arrivals_s
    assert times is not None
    shared = shared_stamps(times)
    if workload.spread_ticks == "none" and shared > SHARED * len(times):
        notes.append(
            f"{percent_text(shared / len(times))} of the requests of the trace share their time stamp with another, so "
            "they arrive at once. workload.spread_ticks=even spreads them"
        )
    offered, mean = _rate(np.array(load.arrivals_fs) / 1e15 / scenario.time_scale), _rate(times)
    if offered is not None and mean is not None and offered < LOW_LOAD * mean:
        notes.append(
            f"the replayed requests arrive at {number_text(offered)} per s and those of the whole trace at "
            f"{number_text(mean)} per s. workload.skip_s or workload.skip_requests starts later"
        )
    return notes


def _repeats(repeated: int, served: int, workload: TraceWorkload) -> str:
    kind = "have prefixes of their own" if workload.repeat == "fresh" else "have the prefixes of the first time"
    return f"{repeated} of {served} requests are repeats of the trace, and {kind} (workload.repeat={workload.repeat})"


def _rate(times: np.ndarray) -> float | None:
    """Return requests per second, or ``None`` if all arrive at once."""
    duration = float(times.max() - times.min())
    return len(times) / duration if duration > 0 else None
