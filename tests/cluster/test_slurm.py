"""A sweep through Slurm: two nodes on this host, one of which is lost in the middle."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.conftest import POINTS, SWEEP, assert_whole, exact_rows, require
from tests.cluster.slurm import INSTALL, NODES, Cluster, missing, running
from tests.conftest import ROOT

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

LAUNCHER = ("hydra/launcher=submitit_slurm", "hydra.launcher.partition=bench", "hydra.launcher.cpus_per_task=1",
            "hydra.launcher.mem_gb=1", "hydra.launcher.timeout_min=10")  # fmt: skip
A_NODE_PER_JOB = "+hydra.launcher.additional_parameters.exclusive=true"


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    if missing():
        pytest.skip(f"{', '.join(missing())} not found; needs: {INSTALL}")
    require("submitit")
    with tempfile.TemporaryDirectory(prefix="slurm-") as folder, running(Path(folder)) as cluster:
        yield cluster


def start(cluster: Cluster, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(ROOT / "bench" / "run.py"), *arguments]
    return subprocess.Popen(command, env=cluster.env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def finish(process: subprocess.Popen[str], timeout_s: float = 600) -> tuple[int, str]:
    try:
        out, err = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return process.returncode, out + err


def rows(run_dir: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (run_dir / "points").glob("*.json")}


def lose_a_node(cluster: Cluster, run_dir: Path) -> None:
    """Once a row is there and both nodes work, the second one's power fails."""
    deadline = time.monotonic() + 240
    while not rows(run_dir) or len(cluster.jobs("--states=running")) < 2:
        assert time.monotonic() < deadline, cluster.jobs("--states=all")
        time.sleep(0.2)
    assert cluster.kill_node("n2") > 0, "a job was at work on it"
    cluster.call("scontrol", "update", "nodename=n2", "state=down", "reason=lost")  # else after SlurmdTimeout


def test_the_same_as_locally(cluster: Cluster, tmp_path: Path, local_rows: list[dict[str, Any]]) -> None:
    run_dir = tmp_path / "run"
    code, printed = finish(start(cluster, "-m", *LAUNCHER, *SWEEP, f"run_dir={run_dir}"))
    assert code == 0, printed
    assert f"{POINTS} points run" in printed
    assert_whole(run_dir)
    assert exact_rows(run_dir) == local_rows
    used = {line.split()[-1] for line in cluster.jobs("--states=all")}
    assert used == set(NODES)


def test_a_lost_node_then_resumed(cluster: Cluster, tmp_path: Path, local_rows: list[dict[str, Any]]) -> None:
    run_dir = tmp_path / "run"
    process = start(cluster, "-m", *LAUNCHER, A_NODE_PER_JOB, *SWEEP, f"run_dir={run_dir}")
    lose_a_node(cluster, run_dir)
    os.kill(process.pid, signal.SIGINT)
    code, printed = finish(process)
    assert code == 130, printed
    assert f"resume={run_dir}" in printed
    cluster.cancel_all()
    before = rows(run_dir)
    assert 0 < len(before) < POINTS
    code, printed = finish(start(cluster, f"resume={run_dir}", *LAUNCHER))
    assert code == 0, printed
    assert_whole(run_dir)
    after = rows(run_dir)
    assert {name: after[name] for name in before} == before, "nothing finished is measured twice"
    assert exact_rows(run_dir) == local_rows


def test_a_lost_nodes_jobs_run_elsewhere(cluster: Cluster, tmp_path: Path, local_rows: list[dict[str, Any]]) -> None:
    run_dir = tmp_path / "run"
    process = start(cluster, "-m", *LAUNCHER, A_NODE_PER_JOB, *SWEEP, f"run_dir={run_dir}")
    lose_a_node(cluster, run_dir)
    code, printed = finish(process)
    assert code == 0, printed
    assert_whole(run_dir)
    assert exact_rows(run_dir) == local_rows
