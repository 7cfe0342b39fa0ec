"""All sweeps in one process: budgets, what an earlier visit finished, one ceiling, rows as any sweep writes them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.plan.points import read_plan
from bench.rows.run_folder import read_environment
from bench.rows.table import load_rows
from scripts.visit.sweeps import SweepRunner

SWEEP = ("measure=quick", "measure.max_s=0", "measure.weigh=false", "impl=contiguous,paged_torch", "num_seqs=2",
         "model.max_seq_len=64", "workload.low=8", "workload.high=60", "page_size=16")  # fmt: skip


def request(name: str, *overrides: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, "sweeps": [[*SWEEP, *overrides]], "budget_s": 120.0, "done": [], **fields}


@pytest.fixture(scope="module")
def visit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SweepRunner]:
    with SweepRunner(tmp_path_factory.mktemp("work"), "cpu") as running:
        yield running


def test_rows_are_those_of_any_sweep(visit: SweepRunner) -> None:
    answer = visit.run(request("whole"))
    assert (answer["points"], answer["left"], answer["statuses"]) == (2, 0, {"ok": 2})
    folder = visit.work / "sweeps" / "whole"
    table = load_rows(folder)
    assert set(table["implementation"]) == {"contiguous", "paged_torch"}
    assert set(table["fingerprint"]) == {read_environment(folder)["fingerprint"]}
    assert not table["mixed"].any()
    assert answer["done"] == sorted(path.stem for path in (folder / "points").glob("*.json"))


def test_a_spent_budget_leaves_points_for_the_next_request(visit: SweepRunner) -> None:
    assert visit.run(request("cut", "seed=1", budget_s=0.0))["left"] == 2
    answer = visit.run(request("cut", "seed=1"))
    assert (answer["left"], answer["statuses"]) == (0, {"ok": 2})


def test_what_an_earlier_visit_finished_is_not_run_again(visit: SweepRunner) -> None:
    done = visit.run(request("first", "seed=2"))["done"]
    answer = visit.run(request("second", "seed=2", done=done[:1]))
    assert answer["statuses"] == {"ok": 1}
    assert answer["done"] == done


def test_the_ceiling_is_measured_once_and_the_server_is_the_same(visit: SweepRunner) -> None:
    visit.run(request("one", "seed=3"))
    visit.run(request("two", "seed=4"))
    tables = [load_rows(visit.work / "sweeps" / name) for name in ("one", "two")]
    for column in ("ceiling_gbps", "server_id"):
        assert len({value for table in tables for value in table[column]}) == 1


def test_several_sweeps_go_to_one_folder(visit: SweepRunner) -> None:
    sweeps = [[*SWEEP, "seed=5", "impl=contiguous"], [*SWEEP, "seed=5"]]
    answer = visit.run({**request("joined"), "sweeps": sweeps})
    assert answer["points"] == 2, "the point of both is planned once"
    assert len(json.loads((visit.work / "sweeps" / "joined" / "plan.json").read_text())["points"]) == 2


def test_a_request_that_fails_leaves_a_server_for_the_next_one(
    visit: SweepRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("scripts.visit.sweeps.label", lambda question: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            visit.run(request("broken", "seed=7"))
    assert visit.run(request("broken", "seed=7"))["statuses"] == {"ok": 2}


def test_bad_input_is_raised_before_a_folder_is_made(visit: SweepRunner) -> None:
    with pytest.raises(ValueError, match="num_seqs=0 must be at least 1"):
        visit.run(request("bad", "num_seqs=0"))
    assert not (visit.work / "sweeps" / "bad").exists()


def test_keys_are_those_that_the_command_line_gives(visit: SweepRunner) -> None:
    overrides = [*SWEEP, "impl=paged_torch", "device=cpu"]
    plan, _ = visit.planner.plan([overrides], "cpu", None)
    root = Path(__file__).resolve().parents[3]
    shown = subprocess.run([sys.executable, "bench/run.py", "-m", *overrides, "dry_run=true"], cwd=root, check=True,
                           capture_output=True, text=True)  # fmt: skip
    assert [point.key for point in plan.points] == re.findall(r"│ ([0-9a-f]{16}) │", shown.stdout)


def test_a_folder_of_the_visit_can_be_resumed_by_the_command_line(visit: SweepRunner, tmp_path: Path) -> None:
    visit.run(request("resumable", "seed=6", budget_s=0.0))
    plan = read_plan(visit.work / "sweeps" / "resumable")
    assert [point.config.device for point in plan.points] == ["cpu", "cpu"]
