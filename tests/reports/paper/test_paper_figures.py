"""The paper's figures from rows of small sweeps: numbers, marks, files, and nothing from nothing."""

from __future__ import annotations

import os
import re
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.reports.catalogue import all_figures, draw_figures
from bench.reports.paper.figures.rows import experiment_rows
from bench.reports.paper.figures.sustained import sustained_rate, sustained_rates
from bench.reports.paper.judge import judge
from bench.reports.paper.registry import STAND_IN, load_claims
from bench.reports.paper.runs import EXPERIMENTS, load_tables, newest_paper, run_folders, steps
from bench.rows.columns import COLUMNS, NAMES
from bench.rows.record import complete
from bench.rows.result import Answer
from bench.runner.row import make_row
from bench.scenarios.memory.capacity import fill_to_capacity
from bench.scenarios.memory.churn import run_churn
from bench.scenarios.memory.lengths import describe_lengths
from bench.scenarios.serving.scenario import run_serving
from scripts import paper as paper_script
from tests.conftest import ROOT
from tests.support.commands import script_in_process
from tests.support.points import Composed, plan_of

RUN = {"capacity": fill_to_capacity, "churn": run_churn, "lengths": describe_lengths, "serving": run_serving}
SYSTEMS = ("policy=reserved_max", "policy=reserved_oracle", "policy=paged")
PAPERS = [figure for figure in all_figures() if figure.name.startswith(("paper_", "modern_", "azure", "mooncake"))]


def rows_of(experiment: str, *points: Composed) -> pd.DataFrame:
    """Return rows of some points, as if they were of that experiment."""
    rows = []
    for point in plan_of(*points).points:
        answer: Answer = RUN[point.config.scenario.name]({"config": point.config.to_json()})
        facts: dict[str, Any] = dict.fromkeys(
            ("server_id", "code_hash", "fingerprint", "log", "harness_s", "measured_s", "mixed", "interleaved"), 0
        )
        row = {**make_row(point, 0, answer, facts), "experiment": experiment}
        rows.append(complete({name: value for name, value in row.items() if name in NAMES}))
    return pd.DataFrame(rows, columns=list(NAMES)).astype({column.name: column.dtype for column in COLUMNS})


def serving(*overrides: str, rate: float = 2.0, **changes: Any) -> Composed:
    scenario = {"rate": rate, **changes.pop("scenario", {})}
    return Composed("scenario=serving", "model=opt-13b", "workload=alpaca", *overrides, scenario=scenario,
                    memory_budget="3GiB", num_seqs=40, **changes)  # fmt: skip


@cache
def everything() -> pd.DataFrame:
    """A few rows of most experiments."""
    model = "model=opt-13b"
    one = {"length": 1}
    parts = [
        rows_of("paper_table1", Composed("scenario=capacity", model, "policy=paged", "workload=fixed", workload=one,
                                         page_size=1, memory_budget="12GiB")),
        rows_of("paper_fig03", *(Composed("scenario=capacity", model, "policy=reserved_max", "workload=fixed",
                                          workload={"length": length}, num_seqs=1, model={"max_seq_len": longest})
                                 for length in (10, 5) for longest in (2048, 512))),
        rows_of("paper_fig11", *(Composed("scenario=lengths", model, f"workload={name}", num_seqs=500)
                                 for name in ("sharegpt", "alpaca"))),
        rows_of("paper_fig02", *(Composed("scenario=churn", model, "workload=sharegpt", policy, num_seqs=60, seed=seed,
                                          memory_budget="6GiB", policy={"arena": "buddy"})
                                 for policy in SYSTEMS for seed in (0, 1))),
        rows_of("paper_fig18b_pages", *(Composed("scenario=churn", model, "workload=alpaca", "policy=paged",
                                                 num_seqs=60, memory_budget="1GiB", page_size=size)
                                        for size in (16, 64))),
        rows_of("paper_fig12_13b", *(serving(policy, rate=rate) for policy in SYSTEMS for rate in (1.0, 400.0))),
        rows_of("paper_fig13", *(serving(policy) for policy in SYSTEMS)),
        rows_of("paper_fig15", *(serving("policy=paged", scenario={"sampling": way, "num_samples": 2})
                                 for way in ("parallel", "beam"))),
        rows_of("paper_fig16", *(serving(policy, rate=rate, scenario={"shared_prefix_tokens": 80})
                                 for policy in SYSTEMS[1:] for rate in (1.0, 400.0))),
        rows_of("paper_fig18b", *(serving("policy=paged", page_size=size) for size in (16, 64))),
        rows_of("paper_fig19b", *(serving("policy=paged", page_size=size, scenario={"preemption": way})
                                  for size in (16, 64) for way in ("swap", "recompute"))),
    ]  # fmt: skip
    return pd.concat(parts, ignore_index=True)


def frame(name: str) -> pd.DataFrame:
    (figure,) = [figure for figure in all_figures() if figure.name == name]
    return figure.select(everything())


def test_no_rows_give_no_figure_and_every_figure_names_a_command(tmp_path: Path) -> None:
    assert draw_figures(everything().head(0), tmp_path) == []
    for figure in PAPERS:
        name = re.search(r"experiment=(\w+)", figure.command)[1]
        assert (ROOT / "conf" / "experiment" / f"{name}.yaml").is_file()


@pytest.mark.parametrize(
    "name",
    ["paper_table1", "paper_fig01", "paper_fig02", "paper_fig03", "paper_fig11", "paper_fig12", "paper_fig12_rates",
     "paper_fig13", "paper_fig13_queue", "paper_fig15", "paper_fig16", "paper_fig18b", "paper_fig18b_pages",
     "paper_fig19b"],
)  # fmt: skip
def test_a_figure_comes_with_its_csv(name: str, tmp_path: Path) -> None:
    (drawn,) = draw_figures(everything(), tmp_path, only=[name])
    assert drawn.stat().st_size > 5000
    assert len(pd.read_csv(tmp_path / f"{name}.csv")) == len(frame(name)) > 0


def test_table_1_and_figure_3_are_exact() -> None:
    table1 = frame("paper_table1").iloc[0]
    assert (table1["slots"], table1["token_bytes"], table1["printed"]) == (15_728, 819_200, 15.7)
    assert frame("paper_fig03")["never_used"].tolist() == frame("paper_fig03")["printed"].tolist() == [2038, 507]
    assert frame("paper_fig01")["share"].tolist() == pytest.approx([65, 30, 5])


def test_figure_2_splits_the_whole_pool_as_the_paper_does() -> None:
    split = frame("paper_fig02")
    assert split.groupby("system")["share"].sum().tolist() == pytest.approx([100] * 3)
    oracle = split[split["system"].eq("Orca (Oracle)")].set_index("part")
    assert oracle.loc["internal fragmentation", "share"] == pytest.approx(0, abs=1e-6), "rounding is another's"
    assert oracle.loc["tokens", "printed"] == 38.2
    assert (split["share_low"] <= split["share"]).all()
    assert (split["share"] <= split["share_high"]).all()
    assert set(split["lengths"]) == {STAND_IN}


def test_every_printed_number_of_the_claims_is_in_a_figure() -> None:
    claims = [claim for claim in load_claims() if claim.answer and claim.answer.figure == "paper_fig02"
              and claim.answer.value == "share"]  # fmt: skip
    drawn = frame("paper_fig02")["printed"].dropna()
    mine = {claim.printed for claim in claims if claim.answer.where["system"] != "Orca (Pow2)"}
    assert set(drawn) == mine


def test_rows_belong_to_the_experiment_that_ran_them() -> None:
    rows = everything()
    renamed = rows.assign(experiment=rows["experiment"] + "_mine")
    assert experiment_rows(renamed, "paper_fig02").empty, "no prefix of a name is a name"
    assert set(experiment_rows(rows, "paper_fig02")["scenario"]) == {"churn"}
    twice = pd.concat([rows, rows], ignore_index=True)
    assert len(experiment_rows(twice, "paper_fig02")) == len(experiment_rows(rows, "paper_fig02"))


def test_figure_18a_needs_a_gpu_and_compares_equal_batches_only(tmp_path: Path) -> None:
    (figure,) = [figure for figure in all_figures() if figure.name == "paper_fig18a"]
    common = {"status": "ok", "scenario": "decode", "experiment": "paper_fig18a", "num_seqs": 8,
              "admitted_seqs": 8, "live_tokens": 512, "replicate": 0}  # fmt: skip
    paged = {"implementation": "paged_triton", "page_size": 16}
    lines = [
        common | {"key": "a", "implementation": "contiguous", "decode_us": 10.0, "batch_digest": "x"},
        common | paged | {"key": "b", "decode_us": 12.5, "batch_digest": "x"},
        common | paged | {"key": "c", "decode_us": 99.0, "batch_digest": "y"},
    ]  # fmt: skip
    dtypes = {column.name: column.dtype for column in COLUMNS}
    rows = pd.DataFrame(lines, columns=list(NAMES)).astype(dtypes)
    assert figure.select(rows.assign(device="cpu")).empty, "a CPU says nothing of that kernel"
    drawn = figure.select(rows.assign(device="cuda"))
    assert drawn["overhead"].tolist() == pytest.approx([25])
    assert (drawn["context"].item(), drawn["baseline"].item()) == (64, "contiguous")
    assert draw_figures(rows.assign(device="cuda"), tmp_path, only=["paper_fig18a"])


def test_small_pages_are_judged_where_a_gpu_has_timed_them(tmp_path: Path) -> None:
    (figure,) = [figure for figure in all_figures() if figure.name == "paper_fig18b_kernel"]
    common = {"status": "ok", "scenario": "decode", "experiment": "paper_fig18b_kernel", "replicate": 0,
              "implementation": "paged_triton", "device": "cuda"}  # fmt: skip
    times = {1: 30.0, 8: 10.5, 16: 10.0}
    lines = [common | {"key": str(size), "page_size": size, "decode_us": us} for size, us in times.items()]
    rows = pd.DataFrame(lines, columns=list(NAMES)).astype({column.name: column.dtype for column in COLUMNS})
    drawn = figure.select(rows).set_index("pages")
    assert drawn["slower"].to_dict() == {1: True, 8: False, 16: False}
    assert draw_figures(rows, tmp_path, only=["paper_fig18b_kernel"])
    (claim,) = [claim for claim in load_claims() if claim.id == "fig18b-small"]
    assert judge(claim, figure.select(rows)).ours == 0.5


def test_swapping_is_compared_with_recomputing_the_same_tokens(tmp_path: Path) -> None:
    (figure,) = [figure for figure in all_figures() if figure.name == "paper_fig19a"]
    common = {"status": "ok", "replicate": 0, "implementation": "paged_triton", "device": "cuda", "live_tokens": 512}
    swaps = common | {"scenario": "swap", "experiment": "paper_fig19a", "page_moves": "each"}
    again = common | {"scenario": "prefill", "experiment": "paper_fig19a_recompute", "prefill_us": 100.0,
                      "append_us": 50.0, "linear_us": 850.0}  # fmt: skip
    lines = [swaps | {"key": f"s{size}", "page_size": size, "swap_out_us": us, "swap_in_us": us}
             for size, us in {1: 2000.0, 16: 400.0, 32: 500.0}.items()]  # fmt: skip
    lines += [again | {"key": f"r{size}", "page_size": size} for size in (1, 16)]
    lines += [again | {"key": "other", "page_size": 32, "live_tokens": 99}]
    rows = pd.DataFrame(lines, columns=list(NAMES)).astype({column.name: column.dtype for column in COLUMNS})
    assert figure.select(rows.assign(device="cpu")).empty, "a CPU says nothing of that link"
    drawn = figure.select(rows).set_index("pages")
    assert drawn["recompute_over_swap"].to_dict() == {1: 0.25, 16: 1.25}, "equal tokens only"
    assert drawn["recompute_ms"].tolist() == [40.0, 40.0]
    assert drawn["swap_ms"].to_dict() == {1: 160.0, 16: 32.0}
    assert draw_figures(rows, tmp_path, only=["paper_fig19a"])
    (claim,) = [claim for claim in load_claims() if claim.id == "fig19a"]
    assert judge(claim, figure.select(rows)).verdict == "disputed"
    assert judge(claim, figure.select(rows[rows["page_size"].eq(1)])).verdict == "reproduced"


@given(st.floats(0.05, 0.9), st.lists(st.floats(0.01, 3), min_size=2, max_size=6))
def test_the_sustained_rate_is_where_the_latency_crosses_its_limit(threshold: float, latencies: list[float]) -> None:
    rates = pd.Series(np.arange(1.0, len(latencies) + 1))
    found = sustained_rate(rates, pd.Series(latencies), threshold)
    above = [latency > threshold for latency in latencies]
    if not any(above) or above[0]:
        assert np.isnan(found)
    else:
        first = above.index(True)
        assert rates[first - 1] <= found <= rates[first]


def test_ratios_are_vllm_over_the_others() -> None:
    curves = pd.DataFrame(
        {"panel": 1, "system": ["vLLM"] * 3 + ["Orca (Max)"] * 3, "rate": [1.0, 2, 4, 1, 2, 4],
         "latency": [0.1, 0.1, 0.4, 0.1, 0.4, 9]}
    )  # fmt: skip
    rates = sustained_rates(curves, ["panel"]).set_index("threshold")
    assert rates.loc[0.2, "ratio"] == pytest.approx(3 / 1.5)
    assert np.isnan(rates.loc[1.0, "ratio"]), "vLLM never got there"


def test_the_newest_paper_run_is_found_and_other_folders_are_refused(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("bench.reports.paper.runs.RUNS", tmp_path)
    with pytest.raises(ValueError, match="Run make paper"):
        newest_paper()
    for name in ("paper-20260101-000000", "paper-20260202-000000", "paper-mine", "20270101-000000-abcd"):
        (tmp_path / name).mkdir()
    assert newest_paper().name == "paper-20260202-000000"
    with pytest.raises(ValueError, match="is no run folder and holds none"):
        load_tables(newest_paper())
    for planned_at, name in enumerate(("c", "a", "b")):
        plan = newest_paper() / name / "plan.json"
        plan.parent.mkdir()
        plan.write_text("{}")
        os.utime(plan, (planned_at, planned_at))
    assert [folder.name for folder in run_folders(newest_paper())] == ["c", "a", "b"]


def test_the_steps_depend_on_the_traces_present(tmp_path: Path) -> None:
    found, said = steps(None)
    assert {step.name for step in found} == {part.experiment for part in EXPERIMENTS if part.trace is None}
    assert sum("is left out" in sentence for sentence in said) == sum(part.trace is not None for part in EXPERIMENTS)
    assert any("stand-in" in sentence for sentence in said)
    (tmp_path / "sharegpt_papermatched.csv").write_text("arrival_s,prompt_len,output_len\n")
    (tmp_path / "conversation_trace.jsonl.gz").write_text("")
    found, said = steps(tmp_path)
    names = {step.name: step.overrides for step in found}
    assert f"workload.path={tmp_path / 'sharegpt_papermatched.csv'}" in names["paper_fig02"]
    assert names["paper_fig02_stand_in"] == ("experiment=paper_fig02",)
    assert names["mooncake_hits_conversation"][1] == f"workload.path={tmp_path / 'conversation_trace.jsonl.gz'}"
    assert "mooncake_hits_synthetic" not in names
    assert len(names) == len(found), "no two share a folder"
    for part in EXPERIMENTS:
        assert (ROOT / "conf" / "experiment" / f"{part.experiment}.yaml").is_file()


def paper(*arguments: str) -> subprocess.CompletedProcess[str]:
    return script_in_process(paper_script, *arguments)


def test_an_assumption_is_overridden_behind_dashes(tmp_path: Path) -> None:
    listed = paper("--list", "--only", "paper_fig14_beam", "--", "cost.compute_ratio=1")
    assert listed.stdout.splitlines()[-1].endswith("experiment=paper_fig14_beam cost.compute_ratio=1")
    wrong = paper("--only", "paper_table1", "--out", str(tmp_path), "--", "cost.compute=1")
    assert wrong.returncode == 2
    assert wrong.stderr.strip() == (
        "error: paper_table1: cost.compute is not a configuration key. Did you mean cost.compute_ratio?"
    )
    (tmp_path / "paper_table1").mkdir()
    (tmp_path / "paper_table1" / "plan.json").write_text("{}")
    begun = paper("--only", "paper_table1", "--out", str(tmp_path), "--", "seed=1")
    assert begun.returncode == 2
    assert "has sweeps that began without seed=1" in begun.stderr
