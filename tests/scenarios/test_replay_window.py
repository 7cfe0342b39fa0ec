"""The part of a trace that is replayed: skipped starts, spread ticks, and the notes of a plan."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.config import build
from bench.plan.warnings import warnings
from bench.scenarios.serving.load import Load, make_load
from bench.workload.replay_window import shared_stamps, spread
from tests.support.points import Composed, plan_of

STAMPS = [0, 0, 0, 0, 1, 1, 7, 7, 7, 7]


@pytest.fixture
def trace(tmp_path: Path) -> str:
    path = tmp_path / "burst.csv"
    rows = [f"{second},{10 + index},5" for index, second in enumerate(STAMPS)]
    path.write_text("\n".join(["Timestamp,Request tokens,Response tokens", *rows]))
    return str(path)


def point(trace: str, num_seqs: int = 4, arrivals: str = "trace", **workload: Any) -> Composed:
    return Composed("scenario=serving", "workload=trace", "policy=paged", num_seqs=num_seqs, memory_budget="64MiB",
                    workload={"path": trace, **workload}, scenario={"arrivals": arrivals})  # fmt: skip


def load(*args: Any, **workload: Any) -> Load:
    return make_load(build(point(*args, **workload).values))


def seconds(served: Load) -> list[float]:
    return [round(arrival / 10**15, 6) for arrival in served.arrivals_fs]


def test_a_replay_starts_later_on_request(trace: str) -> None:
    assert load(trace).prompts == [10, 11, 12, 13]
    later = load(trace, skip_s=1.0)
    assert (later.prompts, seconds(later)) == ([14, 15, 16, 17], [0.0, 0.0, 6.0, 6.0])
    assert load(trace, skip_requests=3).prompts == [13, 14, 15, 16]
    assert load(trace, skip_s=1.0, skip_requests=1).prompts == [15, 16, 17, 18]


def test_skipping_everything_is_refused(trace: str) -> None:
    with pytest.raises(
        ValueError, match=r"workload.skip_s=8 and workload.skip_requests=0 leave none of the 10 requests"
    ):
        load(trace, skip_s=8.0)
    with pytest.raises(ValueError, match=r"workload.skip_s=-1.0 must be at least 0"):
        load(trace, skip_s=-1.0)


def test_requests_of_a_tick_are_spread_within_it(trace: str) -> None:
    assert seconds(load(trace, num_seqs=6)) == [0, 0, 0, 0, 1, 1]
    assert seconds(load(trace, num_seqs=6, spread_ticks="even")) == [0.0, 0.25, 0.5, 0.75, 1.0, 1.5]
    drawn = spread(np.array(STAMPS, dtype=float), "drawn", 3)
    assert [int(time) for time in drawn] == STAMPS
    assert len(set(drawn)) == len(drawn)
    assert (drawn == spread(np.array(STAMPS, dtype=float), "drawn", 3)).all()
    assert (drawn != spread(np.array(STAMPS, dtype=float), "drawn", 4)).any()
    assert shared_stamps(np.array(STAMPS, dtype=float)) == 10


def test_notes_of_a_plan(trace: str) -> None:
    def notes(**changes: Any) -> str:
        return " ".join(warnings(plan_of(point(trace, **changes)).points, None))

    assert "100.0 % of the requests of the trace share their time stamp" in notes(num_seqs=10)
    assert "share their time stamp" not in notes(num_seqs=10, spread_ticks="even")
    assert "the replayed requests arrive at 0.6667 per s" in notes(num_seqs=4, skip_requests=4)
    assert "arrive at" not in notes(num_seqs=10, spread_ticks="even")


def test_a_short_trace_is_refused_on_request(trace: str) -> None:
    with pytest.raises(ValueError, match=r"workload.repeat=refuse: 11 requests are needed, and .* has 10 that fit"):
        load(trace, num_seqs=11, arrivals="poisson", repeat="refuse")
    assert load(trace, num_seqs=11, arrivals="poisson").repeated == 1
    assert load(trace, num_seqs=10, arrivals="poisson", repeat="refuse").repeated == 0


@pytest.mark.parametrize(("field", "value"), [("repeat", "same"), ("spread_ticks", "even")])
def test_options_without_effect_are_not_in_the_key(trace: str, field: str, value: str) -> None:
    arrivals = "trace" if field == "repeat" else "poisson"
    plan = plan_of(point(trace, arrivals=arrivals), point(trace, arrivals=arrivals, **{field: value}))
    assert plan.merged == 1
