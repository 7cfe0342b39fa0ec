"""Run folders written before files moved into rooms: read, compared, drawn and reported, but not resumed."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest

from bench.cli.resume import find_resumed_run
from bench.cli.status import read_state
from bench.compare import Rules, compare
from bench.compare.load import load_side
from bench.config import build
from bench.plan.points import PLAN_VERSION, read_plan
from bench.plan.question import effective, key_of
from bench.reports.markdown import markdown_report
from bench.rows.run_folder import read_environment
from bench.rows.table import load_rows
from scripts import make_figures
from tests.support.commands import script_in_process
from tests.support.points import Composed, plan_of, values

OLD = Path(__file__).parent / "fixtures" / "old_run"
RUNS = ("decode", "serving", "churn")


@pytest.mark.parametrize("name", RUNS)
def test_an_old_run_is_read_and_reported(name: str) -> None:
    table = load_rows(OLD / name)
    assert table["scenario"].tolist() == [name]
    assert table["status"].tolist() == ["ok"]
    state = read_state(OLD / name)
    assert (state.counts, state.exit_code) == (Counter(ok=1), 0)
    report = markdown_report(table, read_environment(OLD / name), [])
    assert name in report


@pytest.mark.parametrize("name", RUNS)
def test_an_old_question_has_the_same_key_today(name: str) -> None:
    (point,) = json.loads((OLD / name / "plan.json").read_text())["points"]
    target = values(f"scenario={name}")["scenario"]["target"]  # plans of that version name no class
    config = build({**point["values"], "scenario": {**point["values"]["scenario"], "target": target}})
    assert key_of(effective(config)) == point["key"]


@pytest.mark.parametrize("name", RUNS)
def test_an_old_run_is_compared(name: str, tmp_path: Path) -> None:
    changed = shutil.copytree(OLD / name, tmp_path / "run")
    (path,) = (changed / "points").glob("*.json")
    row = json.loads(path.read_text())
    row["pool_bytes"] += 1
    row["free_bytes"] += 1
    path.write_text(json.dumps(row))
    rules = Rules(kinds=("exact",), metrics=("pool_bytes",))
    base = load_side(OLD / name)
    assert compare(base, load_side(OLD / name), rules).exit_code == 0
    assert compare(base, load_side(changed), rules).exit_code == 3


@pytest.mark.parametrize("name", RUNS)
def test_an_old_run_is_drawn(name: str, tmp_path: Path) -> None:
    done = script_in_process(make_figures, str(OLD / name), "--only", "memory_split", "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "memory_split.png").exists()


@pytest.mark.parametrize("name", RUNS)
def test_an_old_run_is_not_resumed(name: str) -> None:
    with pytest.raises(
        ValueError, match=rf"{name} cannot be resumed: it is from an older version .* required is {PLAN_VERSION}"
    ):
        find_resumed_run(str(OLD / name), None)


def test_a_plan_keeps_its_version(tmp_path: Path) -> None:
    plan = plan_of(Composed("scenario=lengths"))
    assert plan.plan_version == PLAN_VERSION
    (tmp_path / "plan.json").write_text(json.dumps(plan.to_json()))
    assert read_plan(tmp_path) == plan
