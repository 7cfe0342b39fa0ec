"""A sweep through a Ray cluster of two nodes on this host, one of which is lost in the middle."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.conftest import POINTS, SWEEP, assert_whole, exact_rows, require
from tests.conftest import ROOT

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]


class Cluster:
    """Two nodes of one CPU each; each is its own raylet, with the processes below it."""

    def __init__(self) -> None:
        import ray.cluster_utils

        self.cluster = ray.cluster_utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
        self.second = self.cluster.add_node(num_cpus=1)
        self.cluster.wait_for_nodes()

    @property
    def launcher(self) -> tuple[str, ...]:
        """Overrides that lead a sweep here."""
        return ("hydra/launcher=ray", f"hydra.launcher.ray.init.address='{self.cluster.address}'")

    def lose_a_node(self) -> None:
        """Kill the second node's processes, workers included, at once."""
        self.cluster.remove_node(self.second, allow_graceful=False)

    def stop(self) -> None:
        """End everything."""
        self.cluster.shutdown()


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    require("ray")
    cluster = Cluster()
    try:
        yield cluster
    finally:
        cluster.stop()


def start(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(ROOT / "bench" / "run.py"), *arguments]
    return subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    try:
        out, err = process.communicate(timeout=600)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return process.returncode, out + err


def rows(run_dir: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (run_dir / "points").glob("*.json")}


def await_both_at_work(run_dir: Path) -> None:
    """Until a row is there and two jobs are claimed: a node has one CPU, so each has one of them."""
    deadline = time.monotonic() + 300
    while not rows(run_dir) or len(list((run_dir / "claims").glob("*.json"))) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_the_same_as_locally(cluster: Cluster, tmp_path: Path, local_rows: list[dict[str, Any]]) -> None:
    run_dir = tmp_path / "run"
    code, printed = finish(start("-m", *cluster.launcher, *SWEEP, f"run_dir={run_dir}"))
    assert code == 0, printed
    assert f"{POINTS} points run" in printed
    assert_whole(run_dir)
    assert exact_rows(run_dir) == local_rows


def test_a_lost_node_then_resumed(cluster: Cluster, tmp_path: Path, local_rows: list[dict[str, Any]]) -> None:
    run_dir = tmp_path / "run"
    process = start("-m", *cluster.launcher, *SWEEP, f"run_dir={run_dir}")
    await_both_at_work(run_dir)
    cluster.lose_a_node()
    os.kill(process.pid, signal.SIGINT)
    code, printed = finish(process)
    assert code == 130, printed
    assert f"resume={run_dir}" in printed
    before = rows(run_dir)
    assert 0 < len(before) < POINTS
    code, printed = finish(start(f"resume={run_dir}", *cluster.launcher))
    assert code == 0, printed
    assert_whole(run_dir)
    after = rows(run_dir)
    assert {name: after[name] for name in before} == before, "nothing finished is measured twice"
    assert exact_rows(run_dir) == local_rows


def test_a_lost_nodes_jobs_run_elsewhere(cluster: Cluster, tmp_path: Path, local_rows: list[dict[str, Any]]) -> None:
    run_dir = tmp_path / "run"
    process = start("-m", *cluster.launcher, *SWEEP, f"run_dir={run_dir}")
    await_both_at_work(run_dir)
    cluster.lose_a_node()
    code, printed = finish(process)
    assert code == 0, printed
    assert_whole(run_dir)
    assert exact_rows(run_dir) == local_rows
