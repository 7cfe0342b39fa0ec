"""A sweep through Slurm: two nodes on this host, one of which is lost in the middle."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.conftest import POINTS, SWEEP, assert_kept, finish_whole, interrupt, require, rows, start
from tests.cluster.slurm import INSTALL, NODES, Cluster, missing, running

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


def start_on(cluster: Cluster, *arguments: str) -> subprocess.Popen[str]:
    return start(*arguments, env=cluster.env)


def lose_a_node(cluster: Cluster, run_dir: Path) -> None:
    """Once a row is there and both nodes work, the second one's power fails."""
    deadline = time.monotonic() + 240
    while not rows(run_dir) or len(cluster.jobs("--states=running")) < 2:
        assert time.monotonic() < deadline, cluster.jobs("--states=all")
        time.sleep(0.2)
    assert cluster.kill_node("n2") > 0, "a job was at work on it"
    cluster.call("scontrol", "update", "nodename=n2", "state=down", "reason=lost")  # else after SlurmdTimeout


def test_rows_are_those_of_the_local_launcher(
    cluster: Cluster, tmp_path: Path, local_rows: list[dict[str, Any]]
) -> None:
    run_dir = tmp_path / "run"
    printed = finish_whole(start_on(cluster, "-m", *LAUNCHER, *SWEEP, f"run_dir={run_dir}"), run_dir, local_rows)
    assert f"{POINTS} points run" in printed
    used = {line.split()[-1] for line in cluster.jobs("--states=all")}
    assert used == set(NODES)


def test_a_run_with_a_lost_node_is_resumed(cluster: Cluster, tmp_path: Path, local_rows: list[dict[str, Any]]) -> None:
    run_dir = tmp_path / "run"
    process = start_on(cluster, "-m", *LAUNCHER, A_NODE_PER_JOB, *SWEEP, f"run_dir={run_dir}")
    lose_a_node(cluster, run_dir)
    interrupt(process, run_dir)
    cluster.cancel_all()
    before = rows(run_dir)
    finish_whole(start_on(cluster, f"resume={run_dir}", *LAUNCHER), run_dir, local_rows)
    assert_kept(before, run_dir)


def test_a_lost_nodes_jobs_run_elsewhere(cluster: Cluster, tmp_path: Path, local_rows: list[dict[str, Any]]) -> None:
    run_dir = tmp_path / "run"
    process = start_on(cluster, "-m", *LAUNCHER, A_NODE_PER_JOB, *SWEEP, f"run_dir={run_dir}")
    lose_a_node(cluster, run_dir)
    finish_whole(process, run_dir, local_rows)
