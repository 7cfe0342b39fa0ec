"""A sweep that was interrupted continues where it stopped, and every planned point ends with one whole row."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from bench.plan.points import read_plan
from bench.rows.record import read_row
from scripts import show_run
from tests.conftest import ROOT, Run
from tests.support.commands import bench_in_process, script_in_process

POINTS = 12
SWEEP = ("scenario=notebook", f"seed=range({POINTS})", "scenario.num_sequences=10", "scenario.num_sequences_list=[5]",
         "draw=false")  # fmt: skip


@pytest.fixture(scope="module")
def one_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("one") / "run"
    assert bench_in_process("-m", *SWEEP, f"run_dir={run_dir}").returncode == 0
    return run_dir


@pytest.fixture
def finished(one_run: Path, tmp_path: Path) -> Path:
    """A finished run that the test may change."""
    return shutil.copytree(one_run, tmp_path / "run")


def contents(run_dir: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (run_dir / "points").iterdir()}


def edit_plan(run_dir: Path, **changes: Any) -> None:
    plan = json.loads((run_dir / "plan.json").read_text())
    for point in plan["points"]:
        point.update(changes)
    (run_dir / "plan.json").write_text(json.dumps(plan))


def kill_after_rows(run_dir: Path, arguments: list[str], count: int) -> int:
    """Run a sweep, kill its parent with SIGKILL once ``count`` rows exist, and return how many rows exist then."""
    process = subprocess.Popen([sys.executable, "bench/run.py", *arguments], cwd=ROOT, stderr=subprocess.DEVNULL,
                               stdout=subprocess.DEVNULL)  # fmt: skip
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        if len(list(run_dir.glob("points/*.json"))) >= count:
            process.send_signal(signal.SIGKILL)
        time.sleep(random.uniform(0, 0.01))
    process.wait()
    return len(list(run_dir.glob("points/*.json")))


@pytest.mark.parametrize("kills", [2, pytest.param(50, marks=pytest.mark.slow)])
def test_killed_at_any_moment_then_resumed(bench: Run, tmp_path: Path, kills: int) -> None:
    run_dir = tmp_path / "run"
    arguments = ["-m", *SWEEP, f"run_dir={run_dir}"]
    seen: dict[str, bytes] = {}
    for kill in range(kills):
        rows = len(list(run_dir.glob("points/*.json")))
        kill_after_rows(run_dir, arguments, min(rows + 1 + POINTS * kill // kills // 2, POINTS))
        now = contents(run_dir)
        assert all(now[name] == before for name, before in seen.items()), "nothing finished is measured twice"
        seen = {name: data for name, data in now.items() if not name.startswith(".")}
        arguments = [f"resume={run_dir}", "draw=false"]
    done = bench(f"resume={run_dir}", "draw=false")
    assert done.returncode == 0, done.stderr
    after = contents(run_dir)
    assert {name for name in after if not name.endswith(".tmp")} == {
        f"{point.key}-0.json" for point in read_plan(run_dir).points
    }
    assert all(read_row(run_dir / "points" / name)["status"] == "ok" for name in after if name.endswith("0.json"))
    assert all(after[name] == data for name, data in seen.items())
    assert not list((run_dir / "leases").glob("*.json"))


def test_resume_leaves_finished_rows_unchanged(bench: Run, finished: Path) -> None:
    before = contents(finished)
    done = bench(f"resume={finished}", *SWEEP, "timeout_s=50")
    assert done.returncode == 0, done.stderr
    assert contents(finished) == before


def test_only_missing_and_retryable_points_run(bench: Run, finished: Path) -> None:
    before = contents(finished)
    lost, crashed, *_ = sorted((finished / "points").iterdir())
    lost.unlink()
    row = json.loads(crashed.read_text())
    crashed.write_text(json.dumps({**row, "status": "crashed", "status_reason": "planted"}))
    assert bench(f"resume={finished}", "draw=false").returncode == 0
    after = contents(finished)
    assert set(after) == set(before)
    assert {name for name in after if after[name] != before[name]} == {lost.name, crashed.name}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("resume={run}/nowhere", "there is no folder"),
        ("resume={tmp}", "is no run folder: it has no plan.json"),
        ("resume={run} run_dir={tmp}/other", "must not be set with resume="),
        ("resume={run} scenario=notebook seed=99", "They add 1 points"),
        ("resume={run} resume_mixed=maybe", "resume_mixed=maybe must be true or false"),
    ],
)
def test_a_resume_that_is_refused_is_one_sentence(
    bench: Run, finished: Path, tmp_path: Path, arguments: str, sentence: str
) -> None:
    done = bench(*arguments.format(run=finished, tmp=tmp_path).split())
    assert done.returncode == 2, done.stdout
    assert sentence in done.stderr
    assert done.stderr.count("\n") == 1, done.stderr


def test_changed_code_is_refused_or_its_rows_are_marked_mixed(bench: Run, finished: Path) -> None:
    lost = sorted((finished / "points").iterdir())[0]
    lost.unlink()
    edit_plan(finished, code_hash="0" * 12)
    refused = bench(f"resume={finished}", "draw=false")
    assert refused.returncode == 2
    assert "the code of point " in refused.stderr
    assert "resume_mixed=true" in refused.stderr
    assert not lost.exists()
    mixed = bench(f"resume={finished}", "resume_mixed=true", "draw=false")
    assert mixed.returncode == 0, mixed.stderr
    assert read_row(lost)["mixed"] is True
    assert [read_row(path)["mixed"] for path in sorted((finished / "points").iterdir())].count(False) == POINTS - 1


def test_another_machine_is_refused(bench: Run, finished: Path) -> None:
    environment = json.loads((finished / "environment.json").read_text())
    (finished / "environment.json").write_text(
        json.dumps({**environment, "cpu_model": "another", "fingerprint": "0" * 12})
    )
    refused = bench(f"resume={finished}", "draw=false")
    assert refused.returncode == 2
    assert "the machine (cpu_model) changed" in refused.stderr


@pytest.mark.usefixtures("no_gpu")
def test_a_dry_run_prints_the_plan_and_writes_nothing(bench: Run, tmp_path: Path) -> None:
    done = bench(
        "-m", "dry_run=true", "page_size=4,16", "device=cpu", "memory_budget=1GiB,100GiB", f"run_dir={tmp_path / 'run'}"
    )
    assert done.returncode == 0, done.stderr
    assert "unsupported: paged_triton requires device=cuda" in done.stdout
    assert "oom_predicted: requires at least" in done.stdout
    assert "10 points × 1 replicate, 2 duplicates merged" in done.stdout
    assert not (tmp_path / "run").exists()
    assert "oom_predicted" not in bench("-m", "dry_run=true", "memory_budget=100GiB", "plan.predict_oom=false").stdout


def test_show_run_prints_the_state_of_a_dead_sweep(finished: Path) -> None:
    lost, leased, *_ = sorted((finished / "points").iterdir())
    lost.unlink()
    leased.unlink()
    dead = {"host": "elsewhere", "boot": "then", "pid": 1, "started": 0.0, "scheduler_job": None}
    lease = finished / "leases" / leased.name
    lease.parent.mkdir(exist_ok=True)
    lease.write_text(json.dumps(dead))
    fresh = script_in_process(show_run, str(finished))
    assert fresh.returncode == 4
    assert "running" in fresh.stdout, "a lease of another host is live while its file is renewed"
    old = time.time() - 60
    os.utime(lease, (old, old))
    stale = script_in_process(show_run, str(finished))
    for text in ("interrupted", "planned", f"{POINTS - 2}", "resume with: python bench/run.py resume="):
        assert text in stale.stdout.replace("\n", ""), stale.stdout
