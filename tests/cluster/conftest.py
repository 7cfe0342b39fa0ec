"""Parts of the cluster tests: a small sweep without tensors, and the rows that every launcher must give."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from bench.plan.points import read_plan
from bench.rows.columns import BY_NAME
from tests.conftest import ROOT

POINTS = 8
SWEEP = ("scenario=notebook", f"seed=range({POINTS})", "scenario.num_sequences=10", "scenario.num_sequences_list=[5]")
EXACT = ("key", "replicate", "status", *(name for name, column in BY_NAME.items() if column.kind == "exact"))
Sweep = Callable[..., subprocess.CompletedProcess[str]]


def require(extra: str) -> None:
    """Skip with the install command if the plugin of a launcher is absent."""
    if find_spec(f"hydra_plugins.hydra_{extra}_launcher") is None:
        pytest.skip(f"needs: python -m pip install --editable '.[{extra}]'")


def exact_rows(run_dir: Path) -> list[dict[str, Any]]:
    """What must be equal on every machine, in the order of the keys."""
    rows = [json.loads(path.read_text()) for path in sorted((run_dir / "points").glob("*.json"))]
    return [{name: row[name] for name in EXACT} for row in rows]


def assert_whole(run_dir: Path) -> None:
    """Every planned job has one row, none has a lease, and the table holds them all."""
    jobs = [f"{point.key}-{replicate}.json" for point, replicate in read_plan(run_dir).jobs()]
    assert {path.name for path in (run_dir / "points").iterdir()} == set(jobs)
    assert not list((run_dir / "leases").glob("*.json"))
    assert len((run_dir / "table.csv").read_text().splitlines()) == len(jobs) + 1


def start(*arguments: str, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
    """A sweep that runs while the test goes on."""
    command = [sys.executable, str(ROOT / "bench" / "run.py"), *arguments]
    return subprocess.Popen(command, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def finish(process: subprocess.Popen[str], timeout_s: float = 600) -> tuple[int, str]:
    """Its exit code and what it printed."""
    try:
        out, err = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return process.returncode, out + err


def finish_whole(process: subprocess.Popen[str], run_dir: Path, expected: list[dict[str, Any]]) -> str:
    """Run ``finish`` on a sweep that must succeed with these rows. Return its output."""
    code, printed = finish(process)
    assert code == 0, printed
    assert_whole(run_dir)
    assert exact_rows(run_dir) == expected
    return printed


def interrupt(process: subprocess.Popen[str], run_dir: Path) -> None:
    """Send Ctrl-C, after which the sweep prints the resume command."""
    os.kill(process.pid, signal.SIGINT)
    code, printed = finish(process)
    assert code == 130, printed
    assert f"resume={run_dir}" in printed


def rows(run_dir: Path) -> dict[str, bytes]:
    """The bytes of every row there is."""
    return {path.name: path.read_bytes() for path in (run_dir / "points").glob("*.json")}


def assert_kept(before: Mapping[str, bytes], run_dir: Path) -> None:
    """Nothing that was finished is measured twice, and there was something of either kind."""
    after = rows(run_dir)
    assert 0 < len(before) < len(after)
    assert {name: after[name] for name in before} == before


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    """Run the sweep, or the given arguments, from an empty folder."""
    caller = tmp_path / "caller"
    caller.mkdir()

    def run(*arguments: str, timeout_s: float = 280) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(ROOT / "bench" / "run.py"), *(arguments or SWEEP)]
        done = subprocess.run(command, cwd=caller, capture_output=True, text=True, timeout=timeout_s, check=False)
        assert not list(caller.iterdir()), "nothing is left beside the caller"
        return done

    return run


@pytest.fixture(scope="session")
def local_rows(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The same sweep by the local launcher."""
    run_dir = tmp_path_factory.mktemp("local") / "run"
    command = [sys.executable, str(ROOT / "bench" / "run.py"), "-m", *SWEEP, f"run_dir={run_dir}"]
    subprocess.run(command, check=True, capture_output=True, timeout=280)
    return exact_rows(run_dir)
