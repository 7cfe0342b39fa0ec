"""A lease is taken over only when its process is dead, or when beats were missed and the process cannot be seen."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from bench.rows.owner import boot, pid_namespace, start_ticks
from bench.runner import lease
from bench.runner.lease import hold_lease, is_free, lease_path


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    (tmp_path / "leases").mkdir()
    return tmp_path


def write_lease(run_dir: Path, age_s: float = 0.0, **changes: Any) -> Path:
    me = {"boot": boot(), "pid_namespace": pid_namespace(), "pid": os.getpid(), "start_ticks": start_ticks(os.getpid())}
    path = lease_path(run_dir, "k-0")
    path.write_text(json.dumps({**me, **changes}))
    then = time.time() - age_s
    os.utime(path, (then, then))
    return path


@pytest.mark.parametrize(
    ("changes", "age_s", "free"),
    [
        ({}, 3600, False),  # this process is alive, however old its last beat is
        ({"start_ticks": 1}, 0, True),  # another process had this number
        ({"pid": 2**22 + 5}, 0, True),
        ({"pid_namespace": 1, "pid": 2**22 + 5}, 0, False),  # of another container: only its beats can be seen
        ({"pid_namespace": 1}, 60, True),
        ({"boot": "of another machine"}, 0, False),
        ({"boot": "of another machine"}, 60, True),
        ({"boot": 5}, 0, False),
        ({"pid": "1"}, 60, True),
    ],
)
def test_who_may_take_over(run_dir: Path, changes: dict[str, Any], age_s: float, free: bool) -> None:
    assert is_free(write_lease(run_dir, age_s, **changes)) is free


@pytest.mark.parametrize("text", ["{}", "[]", "5", "null", '{"pid": 1}', "[" * 50_000, '{"pid": ' + "9" * 400 + "}"])
def test_a_file_that_is_no_lease_is_free_after_the_missed_beats(run_dir: Path, text: str) -> None:
    path = lease_path(run_dir, "k-0")
    path.write_text(text)
    old = time.time() - 60
    os.utime(path, (old, old))
    assert is_free(path)


def test_a_beat_that_is_seen_in_time_keeps_the_lease(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock was set forward by a minute: the lease looks old, but its process still touches it."""
    monkeypatch.setattr(lease, "BEAT_S", 0.4)
    path = write_lease(run_dir, 60, pid_namespace=1)
    threading.Timer(0.1, os.utime, [path]).start()
    with hold_lease(run_dir, "k-0") as acquired:
        assert not acquired
    assert path.exists()


def test_a_lease_that_was_taken_over_is_not_removed(run_dir: Path) -> None:
    path = lease_path(run_dir, "k-0")
    with hold_lease(run_dir, "k-0") as acquired:
        assert acquired
        fresh = path.with_suffix(".other")
        fresh.write_text("{}")
        fresh.replace(path)
    assert path.read_text() == "{}"


def test_another_pid_namespace_respects_a_live_lease(run_dir: Path) -> None:
    unshare = ["unshare", "--fork", "--pid", "--mount-proc"]
    if sys.platform != "linux" or subprocess.run([*unshare, "true"], check=False, capture_output=True).returncode:
        pytest.skip("needs the right to make a PID namespace: unshare --fork --pid --mount-proc")
    code = ("import sys; from pathlib import Path; from bench.runner.lease import hold_lease\n"
            "with hold_lease(Path(sys.argv[1]), 'k-0') as acquired: print(acquired)")  # fmt: skip
    command = [*unshare, sys.executable, "-c", code, str(run_dir)]
    with hold_lease(run_dir, "k-0") as acquired:
        assert acquired
        inside = subprocess.run(command, check=True, capture_output=True, text=True)
        assert inside.stdout == "False\n"
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == "True\n"
