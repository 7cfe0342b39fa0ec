"""Scenario ``churn``: every number equals that of a plain replay, for every policy and queue."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from bench.config import build
from bench.rows.record import complete
from bench.rows.result import Answer
from bench.runner.row import make_row
from bench.scenarios.curve import MAX_POINTS
from bench.scenarios.filling import draw, new_policy
from bench.scenarios.memory.churn import COUNTERS, run_churn
from bench.scenarios.memory.queues import arrival_steps, growing_requests
from bench.workload.requests import Requests
from impls.interface import Unsupported
from impls.policies import POLICIES
from tests.conftest import ROOT
from tests.support.plain_replay import PARTS, replay, replay_of_a_bare_list
from tests.support.points import Composed, plan_of, values

TOKEN_BYTES = 2 * 4096  # of model=tiny
AZURE = ROOT.parent / "shared" / "traces" / "AzureLLMInferenceTrace_conv.csv.gz"
FACTS = ("server_id", "code_hash", "fingerprint", "log", "repro_command", "harness_s", "measured_s", "mixed")
SMALL = {"num_seqs": 60, "workload": {"low": 2, "high": 200}, "memory_budget": str(1500 * TOKEN_BYTES), "page_size": 8}


def resolved(*overrides: str, **changes: Any) -> dict[str, Any]:
    return plan_of(Composed("scenario=churn", *overrides, **changes)).points[0].config.to_json()


def run(*overrides: str, **changes: Any) -> Answer:
    return run_churn({"config": resolved(*overrides, **changes)})


@pytest.mark.parametrize("policy", [*POLICIES, "reserved_pow2-buddy"])
@pytest.mark.parametrize("scenario", [{"queue": "saturated"}, {"queue": "open", "rate": 0.3}], ids=str)
def test_every_number_equals_that_of_a_plain_replay(policy: str, scenario: dict[str, Any]) -> None:
    name, _, arena = policy.partition("-")
    changes = {**SMALL, "scenario": scenario, "policy": {"name": name, "arena": arena or "first_fit"},
               "model": {"max_seq_len": 256}}  # fmt: skip
    row = run(**changes).values
    config = build(resolved(**changes))
    requests = growing_requests(draw(config)[0])
    arrivals = [0] * 60 if scenario["queue"] == "saturated" else arrival_steps(60, scenario["rate"], 0)
    plain = replay(new_policy(config, None), requests, arrivals)
    for counter in ("loaded_steps", "most_running_seqs", *COUNTERS):
        assert row.get(counter) == plain.get(counter), counter
    for part in PARTS[:-1]:
        assert row[f"{part}_bytes"] == plain["sums"][part] // plain["loaded_steps"], part
    assert row["largest_free_ratio"] == pytest.approx(plain["largest_free"] / plain["loaded_steps"], rel=1e-12)
    assert sum(row[f"{part}_bytes"] for part in PARTS) == row["pool_bytes"]


def test_sequences_that_end_at_different_times_fragment_reservations_only() -> None:
    rows = {policy: run(f"policy={policy}", **{**SMALL, "num_seqs": 300}).values for policy in POLICIES}
    assert rows["reserved_oracle"]["external_fragmentation_bytes"] > 0
    assert rows["reserved_oracle"]["largest_free_ratio"] < 1
    assert rows["paged"]["external_fragmentation_bytes"] == 0
    assert rows["paged"]["largest_free_ratio"] == 1


def test_the_split_of_the_papers_figure_2() -> None:
    """The paper prints 20.4, 26.8, 38.2 and 96.3 % with ShareGPT. Log-normal lengths of its means come near."""
    changes = {"num_seqs": 700, "memory_budget": "12GiB"}
    live = {}
    for policy in ("reserved_max", "reserved_pow2", "reserved_oracle", "paged"):
        row = run(
            "model=opt-13b", "workload=lognormal", f"policy={policy}", policy={"arena": "buddy"}, **changes
        ).values
        live[policy] = 100 * row["live_bytes"] / row["pool_bytes"]
    assert 15 < live["reserved_max"] < 23
    assert 23 < live["reserved_pow2"] < 33
    assert 33 < live["reserved_oracle"] < 44
    assert 95 < live["paged"] < 98.5


def test_an_open_queue_with_simultaneous_arrivals_is_saturated() -> None:
    saturated, opened = (
        run("policy=paged", **SMALL, scenario=scenario).values
        for scenario in ({"queue": "saturated"}, {"queue": "open", "rate": 1e9})
    )
    ignored = ("queue", "replay_s", "delayed_requests")
    assert {k: v for k, v in saturated.items() if k not in ignored} == {
        k: v for k, v in opened.items() if k not in ignored
    }
    assert opened["delayed_requests"] > 0


def test_few_arrivals_do_not_wait() -> None:
    row = run("policy=paged", **SMALL, scenario={"queue": "open", "rate": 1e-3}).values
    assert (row["delayed_requests"], row["preemptions"]) == (0, 0)
    assert row["free_bytes"] > 0.9 * row["pool_bytes"]


def test_requests_longer_than_the_pool_are_counted_and_named() -> None:
    answer = run("policy=paged", **{**SMALL, "memory_budget": str(100 * TOKEN_BYTES)})
    requests, _ = draw(build(resolved(**SMALL)))
    too_long = [index for index, final_len in enumerate(requests.final_lens.tolist()) if final_len > 96]
    assert answer.samples["refused_requests"] == too_long
    assert answer.values["refused_seqs"] == len(too_long) == 60 - answer.values["admitted_seqs"]
    assert answer.values["frees"] == answer.values["admitted_seqs"]


def test_a_pool_that_holds_no_request_is_unsupported() -> None:
    with pytest.raises(Unsupported, match=r"could never hold any of the 60 requests to its end \(NEVER\)"):
        run("policy=paged", **{**SMALL, "workload": {"low": 190, "high": 200}, "memory_budget": str(64 * TOKEN_BYTES)})


def test_requests_without_output_hold_their_memory_for_one_step() -> None:
    row = run("policy=paged", "workload=fixed", workload={"length": 32}, num_seqs=10, page_size=16,
              memory_budget=str(64 * TOKEN_BYTES)).values  # fmt: skip
    assert (row["steps"], row["most_running_seqs"], row["live_bytes"]) == (5, 2, row["pool_bytes"])
    with pytest.raises(ValueError, match="request 1 of the workload has only one token"):
        growing_requests(Requests(prompt_lens=_int([3, 1]), output_lens=_int([1, 0])))


def _int(values: list[int]) -> Any:
    import numpy as np

    return np.array(values, dtype=np.int64)


def test_the_curve_is_bounded_and_its_parts_make_the_pool() -> None:
    curves = json.loads(run("policy=paged", **{**SMALL, "num_seqs": 400}).values["curves"])
    assert MAX_POINTS / 2 <= len(curves["step"]) <= MAX_POINTS
    distances = {later - earlier for earlier, later in zip(curves["step"], curves["step"][1:], strict=False)}
    assert len(distances) == 1
    for shares in zip(*(curves[part] for part in PARTS), strict=True):
        assert sum(shares) == pytest.approx(1, abs=1e-3)


def test_values_with_an_effect_are_in_the_key() -> None:
    def keys(*changes: dict[str, Any]) -> int:
        return len(plan_of(*[Composed("scenario=churn", **change) for change in changes]).points)

    paged, reserved = {"policy": {"name": "paged"}}, {"policy": {"name": "reserved_max"}}
    assert keys(paged, {**paged, "scenario": {"rate": 2.0}}, {**paged, "page_layout": "aged"}) == 1
    assert keys(paged, {"policy": {"name": "paged", "arena": "buddy"}}) == 1
    assert keys(reserved, {"policy": {"name": "reserved_max", "watermark": 0.1}}) == 1
    assert keys(reserved, {"policy": {"name": "reserved_max", "arena": "buddy"}}) == 2
    opened = {"queue": "open"}
    assert keys(paged, {**paged, "scenario": opened}, {**paged, "scenario": {**opened, "rate": 2.0}}) == 3


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"scenario": {"queue": "closed"}}, "scenario.queue=closed is not known. Choose one of saturated, open"),
        ({"scenario": {"rate": 0}}, "scenario.rate=0.0 must be above 0 and finite"),
        ({"scenario": {"rate": float("nan")}}, "scenario.rate=nan must be a finite number"),
        ({"policy": {"arena": "slab"}}, "policy.arena=slab is not known. Choose one of first_fit, buddy"),
    ],
)
def test_a_wrong_parameter_is_one_sentence(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        build(values("scenario=churn", **change))


def test_churn_imports_no_torch() -> None:
    code = (
        "import sys, json; from bench.scenarios.memory.churn import run_churn\n"
        "run_churn({'config': json.load(sys.stdin)}); assert 'torch' not in sys.modules"
    )
    config = json.dumps(resolved(**SMALL))
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, input=config, text=True, check=False)
    assert done.returncode == 0


AZURE_COUNTERS = {"admissions": 23_124, "appends": 4_088_665, "frees": 19_366, "preemptions": 3_758, "steps": 40_985,
                  "pages_taken_admit": 1_664_301, "pages_taken_append": 255_260}  # fmt: skip
needs_azure = pytest.mark.skipif(not AZURE.is_file(), reason="the Azure trace is not beside the repository")


def azure() -> dict[str, Any]:
    return resolved("policy=paged", "workload=trace", "model=llama-2-7b", workload={"path": str(AZURE)},
                    model={"max_seq_len": 7864 * 16}, num_seqs=19_366, memory_budget="62912MiB")  # fmt: skip


@needs_azure
def test_the_azure_trace_gives_its_counters() -> None:
    row = run_churn({"config": azure()}).values
    assert {name: row[name] for name in AZURE_COUNTERS} == AZURE_COUNTERS
    assert (row["peak_pages"], row["most_running_seqs"], row["refused_seqs"]) == (7864, 153, 0)


@needs_azure
@pytest.mark.slow
def test_a_bare_list_counts_the_same_on_the_azure_trace() -> None:
    requests = growing_requests(draw(build(azure()))[0])
    assert replay_of_a_bare_list(requests, num_pages=7864, page_size=16) == AZURE_COUNTERS


def test_a_null_column_has_a_reason() -> None:
    rows = {}
    for policy in ("reserved_max", "paged"):
        point = plan_of(Composed("scenario=churn", f"policy={policy}", **SMALL)).points[0]
        answer = run_churn({"config": point.config.to_json()})
        rows[policy] = complete(make_row(point, 0, answer, dict.fromkeys(FACTS, "given")))
    assert rows["reserved_max"]["null_reasons"]["preemptions"].startswith("a reservation")
    assert rows["reserved_max"]["arena"] == "first_fit"
    assert rows["paged"]["null_reasons"]["arena"] == "has no effect on this point"
    assert rows["paged"]["null_reasons"]["decode_us"] == "scenario=churn does not measure it"
