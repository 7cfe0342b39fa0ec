"""Every scenario checks its points when they are planned, by a function of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from bench.plan.predict import predict
from tests.conftest import ROOT
from tests.support.points import Composed, plan_of

MOONCAKE = ROOT / "tests" / "workload" / "fixtures" / "mooncake.jsonl"
SCENARIOS = sorted(path.stem for path in (ROOT / "conf" / "scenario").glob("*.yaml"))


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_scenario_is_planned_by_its_own_function(name: str) -> None:
    declared = yaml.safe_load((ROOT / "conf" / "scenario" / f"{name}.yaml").read_text())
    assert ("predict" in declared) == (name != "notebook"), "all of notebook is in its parameters"
    trace: dict[str, Any] = {"workload": {"path": str(MOONCAKE)}, "page_size": 512} if name == "prefix_cache" else {}
    (point,) = plan_of(Composed(f"scenario={name}", *(["workload=trace"] if trace else []), **trace)).points
    assert point.skip_status is None


@pytest.mark.parametrize(
    "name", ["decode", "prefill", "swap", "capacity", "churn", "lengths", "prefix_cache", "serving"]
)
def test_a_broken_trace_is_bad_input_of_every_scenario(name: str, tmp_path: Path) -> None:
    broken = tmp_path / "broken.csv"
    broken.write_text("arrival_s,prompt_len,output_len\n0.0,many,3\n")
    with pytest.raises(ValueError, match=r"broken\.csv"):
        plan_of(Composed(f"scenario={name}", "workload=trace", workload={"path": str(broken)}))


def test_lengths_that_the_trace_cannot_give_are_bad_input(tmp_path: Path) -> None:
    short = tmp_path / "short.csv"
    short.write_text("arrival_s,prompt_len,output_len\n" + "0.0,10,3\n" * 4)
    with pytest.raises(ValueError, match="num_seqs=32"):
        plan_of(Composed("scenario=lengths", "workload=trace", workload={"path": str(short)}))


def test_pages_that_do_not_divide_the_blocks_are_bad_input() -> None:
    with pytest.raises(ValueError, match="divide"):
        plan_of(Composed("scenario=prefix_cache", "workload=trace", workload={"path": str(MOONCAKE)}, page_size=100))


def test_a_request_that_cannot_grow_is_bad_input(tmp_path: Path) -> None:
    trace = tmp_path / "trace.csv"
    trace.write_text("arrival_s,prompt_len,output_len\n" + "0.0,10,3\n" * 31 + "0.0,1,0\n")
    with pytest.raises(ValueError, match="scenario=churn needs at least 2"):
        plan_of(Composed("scenario=churn", "workload=trace", workload={"path": str(trace)}))


@pytest.mark.parametrize("function", ["nowhere:predict", "bench.scenarios.filling:nothing", "no_function"])
def test_a_missing_function_is_one_sentence(function: str) -> None:
    composed = Composed("scenario=lengths", scenario={"predict": function})
    with pytest.raises(ValueError, match=f"scenario.predict={function} must be module:function"):
        plan_of(composed)


def test_the_sizes_of_a_cache_scenario_count_its_reference() -> None:
    decode, capacity = (
        plan_of(Composed(f"scenario={name}", "policy=paged", scenario=changes)).points[0]
        for name, changes in (("decode", {}), ("capacity", {"real": True, "tensors": True}))
    )
    assert decode.predicted["device_bytes"] > decode.predicted["storage_bytes"]
    assert capacity.predicted["device_bytes"] == capacity.predicted["storage_bytes"]
    assert predict(decode.config, device_memory=1).status == "oom_predicted"
