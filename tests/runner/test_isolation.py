"""One job in one process: whatever it does to itself, the parent gets an outcome and goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from bench.runner.process.server import Server, ServerLost

JOBS = "tests.support.jobs"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server() as running:
        yield running


def test_a_job_runs_in_a_child_of_the_server_and_is_logged(server: Server, tmp_path: Path) -> None:
    first = server.run(f"{JOBS}:behave", {"word": "ü"}, log=tmp_path / "log", timeout_s=60)
    second = server.run(f"{JOBS}:behave", {"word": "ü"}, log=tmp_path / "log", timeout_s=60)
    assert first.answer.status == "ok"
    assert first.answer.values["echo"] == "ü"
    assert first.answer.values["pid"] != second.answer.values["pid"]
    assert first.answer.values["parent"] == second.answer.values["parent"] != os.getpid()
    assert (tmp_path / "log").read_text() == "a word in the log\n" * 2
    assert second.wall_s >= second.measured_s


def test_a_server_imports_from_its_own_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A caller in the folder of another checkout, as in an A/B run, does not get that checkout's code."""
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench" / "__init__.py").write_text("raise RuntimeError('another revision')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with Server() as running:
        outcome = running.run(f"{JOBS}:behave", {"word": "here"}, log=tmp_path / "log", timeout_s=60)
    assert outcome.answer.values["echo"] == "here"


@pytest.mark.parametrize(
    ("how", "status", "reason"),
    [
        ("raise", "crashed", "KeyError: 'planted'"),
        ("unsupported", "unsupported", "this job supports nothing"),
        ("oom", "oom", "MemoryError: planted"),
        ("segfault", "crashed", "ended by signal 11 (SIGSEGV)"),
        ("exit", "crashed", "ended with exit code 7 and no answer"),
        ("kill", "crashed", "ended by signal 9 (SIGKILL)"),
        ("hang", "timeout", "killed after timeout_s=0.5"),
    ],
)
def test_every_end_is_an_outcome(server: Server, tmp_path: Path, how: str, status: str, reason: str) -> None:
    timeout_s = 0.5 if how == "hang" else 60
    outcome = server.run(f"{JOBS}:fail", {"how": how}, log=tmp_path / "log", timeout_s=timeout_s)
    assert (outcome.answer.status, outcome.answer.status_reason) == (status, reason)
    after = server.run(f"{JOBS}:behave", {"word": "on"}, log=tmp_path / "log", timeout_s=60)
    assert after.answer.status == "ok", "the sweep goes on"


def test_a_server_that_cannot_start_is_reported_every_time(tmp_path: Path) -> None:
    with Server(preload=["no_such_module"]) as lost:
        for _ in range(2):
            with pytest.raises(ServerLost, match="no_such_module"):
                lost.await_ready()


def test_waiting_for_others_does_not_count_against_the_time_limit(server: Server, tmp_path: Path) -> None:
    began = time.perf_counter()

    def waited_s() -> float:
        return min(1.0, time.perf_counter() - began)

    outcome = server.run(f"{JOBS}:fail", {"how": "hang"}, log=tmp_path / "log", timeout_s=0.5, waited_s=waited_s)
    assert outcome.answer.status == "timeout"
    assert time.perf_counter() - began >= 1.5


def test_a_traceback_is_in_the_log(server: Server, tmp_path: Path) -> None:
    server.run(f"{JOBS}:fail", {"how": "raise"}, log=tmp_path / "log", timeout_s=60)
    assert "KeyError: 'planted'" in (tmp_path / "log").read_text()


def test_a_lost_server_is_reported(tmp_path: Path) -> None:
    with Server() as server:
        server.run(f"{JOBS}:behave", {"word": ""}, log=tmp_path / "log", timeout_s=60)
        os.kill(server._process.pid, signal.SIGKILL)
        server._process.wait()
        with pytest.raises(ServerLost, match="the fork server ended"):
            server.run(f"{JOBS}:behave", {"word": ""}, log=tmp_path / "log", timeout_s=60)


def test_no_process_outlives_a_killed_parent(tmp_path: Path, root: Path) -> None:
    script = (
        "from pathlib import Path\nfrom bench.runner.process.server import Server\n"
        f"Server().run('{JOBS}:fail', {{'how': 'hang'}}, log=Path({str(tmp_path / 'log')!r}), timeout_s=600)"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], cwd=root, env={**os.environ, "PYTHONPATH": str(root)})
    deadline = time.monotonic() + 60
    while len(family := psutil.Process(parent.pid).children(recursive=True)) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(family) == 2, "the server and its hanging child"
    parent.kill()
    parent.wait()
    _, alive = psutil.wait_procs(family, timeout=20)
    assert not alive
