"""A sweep through a Ray cluster of two nodes on this host, one of which is lost in the middle."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.conftest import POINTS, SWEEP, assert_kept, finish_whole, interrupt, require, rows, start

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]


class Cluster:
    """Two nodes of one CPU each. Each is its own raylet, with the processes below it."""

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


def await_both_at_work(run_dir: Path) -> None:
    """Until a row is there and two jobs have a lease: a node has one CPU, so each has one of them."""
    deadline = time.monotonic() + 300
    while not rows(run_dir) or len(list((run_dir / "leases").glob("*.json"))) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_rows_are_those_of_the_local_launcher(
    cluster: Cluster, tmp_path: Path, local_rows: list[dict[str, Any]]
) -> None:
    run_dir = tmp_path / "run"
    printed = finish_whole(start("-m", *cluster.launcher, *SWEEP, f"run_dir={run_dir}"), run_dir, local_rows)
    assert f"{POINTS} points run" in printed


def test_a_run_with_a_lost_node_is_resumed(cluster: Cluster, tmp_path: Path, local_rows: list[dict[str, Any]]) -> None:
    run_dir = tmp_path / "run"
    process = start("-m", *cluster.launcher, *SWEEP, f"run_dir={run_dir}")
    await_both_at_work(run_dir)
    cluster.lose_a_node()
    interrupt(process, run_dir)
    before = rows(run_dir)
    finish_whole(start(f"resume={run_dir}", *cluster.launcher), run_dir, local_rows)
    assert_kept(before, run_dir)


def test_a_lost_nodes_jobs_run_elsewhere(cluster: Cluster, tmp_path: Path, local_rows: list[dict[str, Any]]) -> None:
    run_dir = tmp_path / "run"
    process = start("-m", *cluster.launcher, *SWEEP, f"run_dir={run_dir}")
    await_both_at_work(run_dir)
    cluster.lose_a_node()
    finish_whole(process, run_dir, local_rows)
