"""Our own launcher gets jobs as objects: it reads no plan, parses no overrides and builds no configuration again."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra_plugins.bench_local_launcher import LocalLauncher

from bench.config import Config
from bench.plan.points import Plan
from bench.rows.record import read_row
from bench.rows.run_folder import FOLDERS
from bench.runner.execute import pending_jobs
from bench.runner.session import Session
from tests.support.points import Composed, plan_of


@pytest.fixture
def plan() -> Plan:
    return plan_of(*[Composed("scenario=lengths", num_seqs=4, seed=seed, replicates=2) for seed in (0, 1)])


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    for part in FOLDERS:
        (tmp_path / part).mkdir()
    return tmp_path


def rows(run_dir: Path) -> dict[str, dict[str, object]]:
    return {path.stem: read_row(path) for path in (run_dir / "points").iterdir()}


def test_planned_jobs_run_without_a_plan_file(plan: Plan, run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = pending_jobs(plan, run_dir)
    monkeypatch.setattr(Config, "__post_init__", None)  # none can be built in this process from here on
    LocalLauncher().run(Session(run_dir=run_dir, plan=plan, interleaved=True), jobs, None)
    assert set(rows(run_dir)) == {f"{point.key}-{replicate}" for point, replicate in plan.jobs()}
    assert {row["status"] for row in rows(run_dir).values()} == {"ok"}
    assert pending_jobs(plan, run_dir) == []


def test_only_the_jobs_that_were_handed_over_run(plan: Plan, run_dir: Path) -> None:
    (first, *_) = pending_jobs(plan, run_dir)
    session = Session(run_dir=run_dir, plan=plan, interleaved=True, mixed=True)
    LocalLauncher().run(session, [first], None)
    assert list(rows(run_dir)) == [first.name]
    assert rows(run_dir)[first.name]["mixed"] is True


def test_jobs_of_another_sweeper_are_refused() -> None:
    with pytest.raises(ValueError, match="hydra/launcher=local runs planned jobs only"):
        LocalLauncher().launch([["seed=1"]], initial_job_idx=0)
