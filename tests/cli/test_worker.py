"""The job of a foreign launcher's worker: what was queued must still be what was planned, and nothing is raised."""

from __future__ import annotations

import dataclasses
import json
import os
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from bench.cli.worker import work
from bench.plan.points import Plan
from bench.rows.json_file import write_json
from bench.rows.record import read_row
from bench.rows.run_folder import FOLDERS
from bench.runner.lease import BEAT_S, MISSED_BEATS, hold_lease
from tests.conftest import Run
from tests.support.points import Composed, plan_of, values

SMALL = ("scenario=notebook", "scenario.num_sequences=10", "scenario.num_sequences_list=[5]", "draw=false")


@pytest.fixture
def plan() -> Plan:
    return plan_of(Composed(*SMALL))


def folder_of(plan: Plan, run_dir: Path) -> Path:
    for part in FOLDERS:
        (run_dir / part).mkdir(parents=True)
    write_json(run_dir / "plan.json", plan.to_json())
    return run_dir


def queued(run_dir: Path, plan: Plan, *overrides: str, **changes: Any) -> DictConfig:
    """The configuration that a launcher composes from the overrides of the plan's only job."""
    job = {"run_dir": str(run_dir), "job": f"{plan.points[0].key}-0", **changes}
    return OmegaConf.create({**values(*SMALL, *overrides), **job})


def row_of(run_dir: Path) -> dict[str, Any]:
    (path,) = (run_dir / "points").glob("*.json")
    return read_row(path)


def test_a_job_writes_its_row_once(plan: Plan, tmp_path: Path) -> None:
    run_dir = folder_of(plan, tmp_path / "run")
    work(queued(run_dir, plan))
    first = row_of(run_dir)
    assert first["status"] == "ok"
    work(queued(run_dir, plan))
    assert row_of(run_dir) == first
    assert not list((run_dir / "leases").glob("*.json"))


def test_an_edited_configuration_is_refused(plan: Plan, tmp_path: Path) -> None:
    run_dir = folder_of(plan, tmp_path / "run")
    work(queued(run_dir, plan, "seed=3"))
    row = row_of(run_dir)
    assert (row["status"], row["server_id"]) == ("crashed", None)
    assert "conf/ was edited while the job was queued" in row["status_reason"]


def test_edited_code_is_refused_unless_mixed(plan: Plan, tmp_path: Path) -> None:
    edited = dataclasses.replace(plan, points=(dataclasses.replace(plan.points[0], code_hash="0" * 12),))
    run_dir = folder_of(edited, tmp_path / "run")
    work(queued(run_dir, plan))
    assert "was edited while the job was queued" in row_of(run_dir)["status_reason"]
    work(queued(run_dir, plan, resume_mixed=True))
    row = row_of(run_dir)
    assert (row["status"], row["mixed"], row["code_hash"]) == ("ok", True, plan.points[0].code_hash)


@pytest.mark.parametrize("value", ["many", "${nowhere}"])
def test_a_value_that_became_wrong_is_a_row(plan: Plan, tmp_path: Path, value: str) -> None:
    run_dir = folder_of(plan, tmp_path / "run")
    work(queued(run_dir, plan, seed=value))
    assert row_of(run_dir)["status"] == "crashed"


def test_a_job_outside_the_plan_writes_nothing(plan: Plan, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_dir = folder_of(plan, tmp_path / "run")
    work(queued(run_dir, plan, job=f"{'0' * 16}-0"))
    assert "is not in the plan" in capsys.readouterr().err
    assert not list((run_dir / "points").iterdir())


def test_a_job_with_a_live_lease_is_not_run_again(plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.cli.worker.STALE_S", 0.1)
    run_dir = folder_of(plan, tmp_path / "run")
    with hold_lease(run_dir, f"{plan.points[0].key}-0") as ours:
        assert ours
        work(queued(run_dir, plan))
    assert not list((run_dir / "points").iterdir())


def test_the_stale_lease_of_a_lost_node_is_taken_over(plan: Plan, tmp_path: Path) -> None:
    run_dir = folder_of(plan, tmp_path / "run")
    lost = {"host": "elsewhere", "boot": "then", "pid": 1, "started": 0.0, "scheduler_job": "7"}
    (run_dir / "leases").mkdir()
    lease = run_dir / "leases" / f"{plan.points[0].key}-0.json"
    lease.write_text(json.dumps(lost))
    nearly = time.time() - MISSED_BEATS * BEAT_S + 1
    os.utime(lease, (nearly, nearly))
    work(queued(run_dir, plan))  # waits until three beats were missed
    assert row_of(run_dir)["status"] == "ok"


def test_the_basic_launcher_of_hydra_gives_the_same_rows(bench_process: Run, tmp_path: Path) -> None:
    arguments = ("-m", *SMALL, "seed=1,2")
    for launcher in ("local", "basic"):
        done = bench_process(*arguments, f"hydra/launcher={launcher}", f"run_dir={tmp_path / launcher}", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    names = {path.name for path in (tmp_path / "local" / "points").iterdir()}
    assert {path.name for path in (tmp_path / "basic" / "points").iterdir()} == names
    assert {path.name for path in tmp_path.iterdir()} == {"local", "basic"}, "nothing is left beside the caller"


@pytest.mark.parametrize("launcher", ["joblib", "submitit_slurm", "ray"])
def test_a_missing_plugin_is_one_sentence_and_no_folder(bench: Run, tmp_path: Path, launcher: str) -> None:
    extra = launcher.partition("_")[0]
    if find_spec(f"hydra_plugins.hydra_{extra}_launcher"):
        pytest.skip(f"hydra-{extra}-launcher is installed here")
    done = bench("-m", *SMALL, f"hydra/launcher={launcher}", f"run_dir={tmp_path / 'run'}")
    assert done.returncode == 2
    assert f"pip install --editable '.[{extra}]'" in done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert not (tmp_path / "run").exists()
