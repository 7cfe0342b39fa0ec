"""What scenario ``serving`` has to serve: a trace's own times, or lengths at drawn times."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.config import build
from bench.plan.warnings import warnings
from bench.scenarios.serving.load import Load, make_load
from tests.support.points import Composed, plan_of

ROWS = [(0, 5, 3), (1, 7, 2), (4, 9, 0), (3, 2000, 9), (6, 4, 4), (5, 6, 6)]
"""Second, prompt, output: one without output, one too long, and one that stands behind a later one."""


@pytest.fixture
def trace(tmp_path: Path) -> str:
    lines = [f"2023-11-16 18:15:{40 + second:02d}.5000000,{prompt},{output}" for second, prompt, output in ROWS]
    path = tmp_path / "trace.csv"
    path.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n" + "\n".join(lines) + "\n")
    return str(path)


def load(trace: str, **scenario: Any) -> Load:
    changes: dict[str, Any] = {
        "workload": {"path": trace},
        "scenario": {"arrivals": "trace", **scenario},
        "num_seqs": 4,
    }
    return make_load(build(Composed("scenario=serving", "workload=trace", **changes).values))


def test_a_trace_is_served_at_its_own_times(trace: str) -> None:
    served = load(trace, duration_s=100.0)
    assert [arrival // 10**15 for arrival in served.arrivals_fs] == [0, 1, 5, 6]
    assert served.prompts == [5, 7, 6, 4]
    assert served.outputs == [3, 2, 6, 4]
    assert served.skipped == 2
    assert served.unordered == 2


def test_times_are_scaled_and_cut_to_the_duration(trace: str) -> None:
    served = load(trace, duration_s=3.0, time_scale=0.5)
    assert [arrival / 10**15 for arrival in served.arrivals_fs] == [0.0, 0.5, 2.5]
    assert load(trace).prompts == [5, 7, 6, 4], "without a duration: the first num_seqs"


def test_a_run_warns_when_it_sorts(trace: str) -> None:
    changes: dict[str, Any] = {"workload": {"path": trace}, "num_seqs": 4, "memory_budget": "64MiB"}
    plan = plan_of(Composed("scenario=serving", "workload=trace", **changes, scenario={"arrivals": "trace"}))
    assert warnings(plan.points, None) == (
        "2 requests of the trace are out of order: requests are sorted by their time of arrival",
    )
    plan = plan_of(Composed("scenario=serving", "workload=trace", **changes))
    assert warnings(plan.points, None) == ()


def test_times_out_of_order_are_refused_on_request(trace: str) -> None:
    with pytest.raises(ValueError, match=r"2 requests arrive before the one ahead.*scenario.unordered=sort"):
        load(trace, unordered="refuse")


def test_a_short_trace_comes_again_in_new_orders(trace: str) -> None:
    served = load(trace, arrivals="poisson", duration_s=100.0, rate=1.0)
    assert len(served) > 60
    rounds = [sorted(served.prompts[start : start + 4]) for start in range(0, 60, 4)]
    assert rounds == [[4, 5, 6, 7]] * 15, "each round holds every request once"
    assert len({tuple(served.prompts[start : start + 4]) for start in range(0, 60, 4)}) > 3


def test_a_prefix_comes_before_every_prompt(trace: str) -> None:
    served = load(trace, duration_s=100.0, shared_prefix_tokens=100)
    assert served.prompts == [105, 107, 106, 104]


def test_a_traces_limits_hold_here_too(trace: str) -> None:
    changes: dict[str, Any] = {"workload": {"path": trace, "most_prompt_tokens": 6, "most_output_tokens": 3}}
    for arrivals in ("trace", "poisson"):
        scenario = {"arrivals": arrivals, "duration_s": 100.0}
        served = make_load(build(Composed("scenario=serving", "workload=trace", **changes, scenario=scenario).values))
        assert max(served.prompts) == 6
        assert max(served.outputs) == 3


def test_requests_without_output_cannot_be_served() -> None:
    config = build(Composed("scenario=serving", "workload=fixed").values)
    with pytest.raises(ValueError, match="workload=fixed has requests without output"):
        make_load(config)


def test_a_trace_without_times_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "lengths.csv"
    path.write_text("num_prefill_tokens,num_decode_tokens,num_total_tokens,pd_ratio\n5,5,10,1.0\n")
    with pytest.raises(ValueError, match="has no arrival times"):
        load(str(path))


def test_synthetic_requests_do_not_depend_on_the_rate() -> None:
    slow, fast = (
        make_load(build(Composed("scenario=serving", scenario={"rate": rate, "duration_s": 50.0}).values))
        for rate in (1.0, 4.0)
    )
    assert fast.prompts[: len(slow)] == slow.prompts
    assert np.all(np.diff(np.array(fast.arrivals_fs, dtype=np.float64)) >= 0)
