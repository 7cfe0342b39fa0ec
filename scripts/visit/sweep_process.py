"""Starts the process that runs all sweeps of a visit, sends it requests, and kills it if it hangs."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).resolve().parent.parent.parent
GRACE_S = 10.0
"""Seconds that a killed process gets until it is gone."""


class SweepProcess:
    """The process that runs all sweeps. It is started again after it had to be killed."""

    def __init__(self, work: Path, device: str, env: Mapping[str, str], log: Path) -> None:
        self.command = [sys.executable, "-m", "scripts.visit.sweeps", "--work", str(work), "--device", device]
        self.env, self.log = dict(env), log
        self.process: subprocess.Popen[str] | None = None
        self.listener: threading.Thread | None = None
        self.answers: queue.Queue[dict[str, Any] | None] = queue.Queue()

    def start(self) -> None:
        """Start it, if it does not run."""
        if self.process is not None and self.process.poll() is None:
            return
        self.answers = queue.Queue()
        with self.log.open("a") as errors:
            self.process = subprocess.Popen(self.command, cwd=ROOT, env=self.env, stdin=subprocess.PIPE, text=True,
                                            stdout=subprocess.PIPE, stderr=errors, start_new_session=True)  # fmt: skip
        self.listener = threading.Thread(target=_listen, args=(self.process.stdout, self.answers), daemon=True)
        self.listener.start()

    def run(self, request: Mapping[str, Any], wait_s: float, meanwhile: Callable[[], None]) -> dict[str, Any]:
        """Send a request and return its answer. Kill the process after ``wait_s``."""
        self.start()
        assert self.process is not None
        assert self.process.stdin is not None
        deadline = time.monotonic() + wait_s
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
        except OSError as error:
            self.kill()
            return {"error": f"the sweep process has ended: {error}"}
        while time.monotonic() < deadline:
            with contextlib.suppress(queue.Empty):
                answer = self.answers.get(timeout=0.5)
                if answer is not None:
                    return answer
                code = self.process.wait()
                self.kill()
                return {"error": f"the sweep process ended with exit code {code}"}
            meanwhile()
        self.kill()
        return {"error": f"killed after {wait_s:.0f} s", "cut": True}

    def kill(self) -> None:
        """End it and everything that it started."""
        if self.process is None:
            return
        if self.process.stdin is not None:
            with contextlib.suppress(OSError):
                self.process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(1)
        kill_group(self.process)
        if self.listener is not None:
            self.listener.join(GRACE_S)
        self.process = None


def _listen(stream: IO[str] | None, answers: queue.Queue[dict[str, Any] | None]) -> None:
    assert stream is not None
    with stream:
        for line in stream:
            answers.put(json.loads(line))
    answers.put(None)


def kill_group(process: subprocess.Popen[Any]) -> None:
    """Kill a process and everything that it started, stopped or not."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(GRACE_S)
