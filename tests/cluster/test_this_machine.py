"""Sweeps through joblib and submitit on this machine: the same rows, summary and exit code as without them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench.plan.points import read_plan
from tests.cluster.conftest import POINTS, SWEEP, Sweep, assert_whole, exact_rows, require

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

LAUNCHERS = [
    pytest.param("joblib", ["hydra.launcher.n_jobs=2"], id="joblib"),
    pytest.param("submitit_local", ["hydra.sweeper.max_batch_size=4"], id="submitit_local"),
]


@pytest.mark.parametrize(("launcher", "options"), LAUNCHERS)
def test_rows_are_those_of_the_local_launcher(
    sweep: Sweep, tmp_path: Path, local_rows: list[dict[str, Any]], launcher: str, options: list[str]
) -> None:
    require(launcher.partition("_")[0])
    run_dir = tmp_path / "ein lauf ü"
    done = sweep("-m", f"hydra/launcher={launcher}", *options, *SWEEP, f"run_dir='{run_dir}'")
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    assert f"{POINTS} points run" in done.stdout
    assert_whole(run_dir)
    assert exact_rows(run_dir) == local_rows
    rows = [json.loads(path.read_text()) for path in (run_dir / "points").iterdir()]
    assert len({row["server_id"] for row in rows}) == POINTS, "each job has a fork server of its own"
    assert not any(row["rounds_interleaved"] for row in rows)


@pytest.mark.parametrize(("launcher", "options"), LAUNCHERS)
def test_one_bad_job_does_not_end_the_batch(sweep: Sweep, tmp_path: Path, launcher: str, options: list[str]) -> None:
    require(launcher.partition("_")[0])
    run_dir = tmp_path / "run"
    assert sweep("-m", *SWEEP, f"run_dir={run_dir}").returncode == 0
    bad = read_plan(run_dir).points[1]
    plan = json.loads((run_dir / "plan.json").read_text())
    plan["points"][1]["key"] = "0" * 16  # as if conf/ had been edited: its overrides give another key
    (run_dir / "plan.json").write_text(json.dumps(plan))
    for path in (run_dir / "points").iterdir():
        if path.name > f"{read_plan(run_dir).points[4].key}" or path.name.startswith(bad.key):
            path.unlink()
    done = sweep(f"resume={run_dir}", f"hydra/launcher={launcher}", *options)
    assert done.returncode == 4, done.stderr
    assert_whole(run_dir)
    rows = exact_rows(run_dir)
    assert [row["key"] for row in rows if row["status"] != "ok"] == ["0" * 16]
    assert "conf/ was edited while the job was queued" in done.stdout
