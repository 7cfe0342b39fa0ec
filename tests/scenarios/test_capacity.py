"""Scenario ``capacity``: the count matches arithmetic, and the bytes match the machine."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.config import build
from bench.measure.memory.probe import Reading
from bench.rows.result import Answer
from bench.scenarios.memory import capacity_device
from bench.scenarios.memory.capacity import fill_to_capacity
from bench.scenarios.memory.capacity_device import reconcile
from bench.workload.requests import draw_requests, shuffled_trace
from tests.conftest import ROOT
from tests.support.points import Composed, plan_of, values

TOKEN_BYTES = 2 * 4096  # of model=tiny
PARTS = ("live", "reserved", "internal_fragmentation", "external_fragmentation", "cached", "free")


def run(*overrides: str, **changes: Any) -> Answer:
    """The scenario's function on a resolved point."""
    plan = plan_of(Composed("scenario=capacity", *overrides, **changes))
    return fill_to_capacity({"config": plan.points[0].config.to_json()})


@pytest.mark.parametrize(
    ("policy", "admitted"),
    [("reserved_max", 4), ("reserved_pow2", 40), ("reserved_oracle", 40), ("paged", 4096 // 112), ("prefix", 36)],
)
def test_equal_lengths_fit_as_often_as_division_says(policy: str, admitted: int) -> None:
    values = run(f"policy={policy}", "workload=fixed", workload={"length": 100},
                 memory_budget=str(4096 * TOKEN_BYTES)).values  # fmt: skip
    assert values["admitted_seqs"] == admitted
    assert values["live_bytes"] == admitted * 100 * TOKEN_BYTES


@pytest.mark.parametrize("policy", ["reserved_max", "reserved_oracle", "paged"])
@pytest.mark.parametrize("seed", [0, 3])
def test_drawn_lengths_fit_up_to_the_first_refusal(policy: str, seed: int) -> None:
    num_slots, page_size = 700 * 64, 64  # several draws of the queue
    point = values("workload=uniform", seed=seed, workload={"low": 1, "high": 90})
    config = build(point)
    lens = draw_requests(config.workload, num_seqs=4000, max_seq_len=1024, seed=seed).final_lens
    held = {
        "reserved_max": np.full_like(lens, 1024),
        "reserved_oracle": lens,
        "paged": -(-lens // page_size) * page_size,
    }[policy]
    admitted = int(np.searchsorted(np.cumsum(held), num_slots, side="right"))
    row = run(f"policy={policy}", "workload=uniform", workload={"low": 1, "high": 90}, seed=seed,
              page_size=page_size, memory_budget=str(num_slots * TOKEN_BYTES)).values  # fmt: skip
    assert row["admitted_seqs"] == admitted
    assert row["live_tokens"] == lens[:admitted].sum()
    assert sum(row[f"{part}_bytes"] for part in PARTS) == row["pool_bytes"] == num_slots * TOKEN_BYTES


def test_mid_decode_sequences_hold_less_and_reserve_the_rest() -> None:
    final, caught = (
        run("policy=reserved_oracle", scenario={"held": held}, memory_budget="256MiB").values
        for held in ("final", "mid_decode")
    )
    assert caught["admitted_seqs"] == final["admitted_seqs"], "a reservation does not depend on the progress"
    assert caught["live_bytes"] + caught["reserved_bytes"] == final["live_bytes"]
    paged = [run("policy=paged", scenario={"held": held}).values["admitted_seqs"] for held in ("mid_decode", "final")]
    assert paged[0] > paged[1]


def test_a_trace_comes_again_when_it_ends(tmp_path: Path) -> None:
    trace = tmp_path / "trace.csv"
    trace.write_text("arrival_s,prompt_len,output_len\n,100,20\n,7,9\n,2000,1\n")
    row = run("policy=reserved_oracle", "workload=trace", workload={"path": str(trace)},
              memory_budget=str(1000 * TOKEN_BYTES)).values  # fmt: skip
    order = shuffled_trace(build(values("workload=trace", workload={"path": str(trace)})).workload,
                           max_seq_len=1024, seed=0).final_lens  # fmt: skip
    admitted = int(np.searchsorted(np.cumsum(np.resize(order, 50)), 1000, side="right"))
    assert row["admitted_seqs"] == admitted > 10


def test_values_without_effect_are_not_in_the_key() -> None:
    same = [
        Composed("scenario=capacity", memory_budget="64MiB"),
        Composed("scenario=capacity", "impl=contiguous", memory_budget="64MiB", num_seqs=3, page_layout="aged"),
    ]
    assert len(plan_of(*same).points) == 1
    assert len(plan_of(*same, Composed("scenario=capacity", memory_budget="64MiB", page_size=4)).points) == 2


def test_a_budget_below_one_sequence_is_unsupported_beside_others() -> None:
    small = Composed("scenario=capacity", "policy=reserved_max", memory_budget=str(1023 * TOKEN_BYTES))
    plan = plan_of(Composed("scenario=capacity"), small)
    assert plan.points[0].skip_status is None
    assert plan.points[1].skip_status == "unsupported"
    assert "a sequence's reservation of model.max_seq_len 1,024 tokens" in str(plan.points[1].skip_reason)
    with pytest.raises(ValueError, match="no point of the plan can run"):
        plan_of(small)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"held": "start"}, "scenario.held=start is not known. Choose one of final, mid_decode"),
        ({"tensors": True}, "scenario.tensors=True must equal scenario.real=False"),
        ({"real": "yes"}, "scenario.real=yes must be true or false"),
    ],
)
def test_a_wrong_parameter_is_one_sentence(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        build(values("scenario=capacity", scenario=change))


def test_counting_imports_no_torch() -> None:
    config = plan_of(Composed("scenario=capacity")).points[0].config.to_json()
    code = (
        "import sys, json; from bench.scenarios.memory.capacity import fill_to_capacity\n"
        "fill_to_capacity({'config': json.load(sys.stdin)}); assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, input=json.dumps(config), text=True, check=False)
    assert done.returncode == 0


def in_a_process_of_its_own(*overrides: str, **changes: Any) -> dict[str, Any]:
    """As ``run``: memory that an earlier test gave back would be taken again without a rise."""
    config = plan_of(Composed("scenario=capacity", *overrides, **changes)).points[0].config.to_json()
    code = (
        "import sys, json; from bench.scenarios.memory.capacity import fill_to_capacity\n"
        "print(json.dumps(fill_to_capacity({'config': json.load(sys.stdin)}).to_json()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, input=json.dumps(config), text=True, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


@pytest.mark.parametrize("impl", ["contiguous", "paged_torch"])
def test_the_real_bytes_are_the_counted_ones(impl: str) -> None:
    answer = in_a_process_of_its_own("scenario.real=true", f"impl={impl}", memory_budget="96MiB")
    counted = run(f"policy={'paged' if impl == 'paged_torch' else 'reserved_max'}", memory_budget="96MiB")
    real = answer["values"]
    assert answer["status"] == "ok"
    assert {name: real[name] for name in counted.values} == counted.values
    assert real["layers_allocated"] == 2
    assert abs(real["storage_bytes"] - real["pool_bytes"]) < 2**20
    rise, difference = (real[f"process_{what}_bytes"] for what in ("memory_rise", "difference"))
    assert difference == rise - real["pool_bytes"]
    assert abs(difference) < 0.1 * real["pool_bytes"]
    assert answer["null_reasons"]["torch_difference_bytes"] == "there is no CUDA device in this point"


def test_a_pool_that_the_host_cannot_hold_is_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capacity_device, "available_host_bytes", lambda: 10 * 2**20)
    answer = run("scenario.real=true", "impl=paged_torch", memory_budget="64MiB")
    assert (answer.status, answer.status_reason) == (
        "oom", "the pool needs 64 MiB and the host has 10 MiB available",
    )  # fmt: skip


def test_every_level_is_reconciled_or_has_a_reason() -> None:
    reading = Reading(values={"torch_allocated_peak_bytes": 70, "device_memory_bytes": 90},
                      null_reasons={"process_memory_rise_bytes": "pid_namespace"})  # fmt: skip
    answer = reconcile(64, reading)
    assert answer.values["torch_difference_bytes"] == 6
    assert answer.values["device_difference_bytes"] == 26
    assert answer.null_reasons["process_difference_bytes"] == "pid_namespace"


def test_the_command_prints_the_difference(bench: Any, tmp_path: Path) -> None:
    done = bench("scenario=capacity", "scenario.real=true", "impl=paged_torch", "memory_budget=16MiB", "draw=false",
                 "device=cpu", f"run_dir={tmp_path / 'run'}")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "process − pool" in done.stdout
    (row,) = [json.loads(path.read_text()) for path in (tmp_path / "run" / "points").glob("*.json")]
    assert row["admitted_seqs"] > 0
    assert row["null_reasons"]["decode_us"] == "scenario=capacity does not measure it"
