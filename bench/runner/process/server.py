"""The client of a fork server: it runs each job in a forked child with a time limit.

If the child crashes, hangs or is killed, the outcome records it. The parent gets no exception. Each server is a new
interpreter, so its children share no state with those of another server.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import ROOT
from bench.rows.owner import is_dead, owner_token
from bench.rows.result import Answer

FOLDER_PREFIX = "bench-"
"""First part of the names of temporary folders. The second part names the process that uses the folder."""
KILL_GRACE_S = 10.0
START_TIMEOUT_S = 300.0


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The result of one job and its times."""

    answer: Answer
    measured_s: float  # measured in the child
    wall_s: float  # measured in the parent


class ServerLost(RuntimeError):
    """The fork server has ended or cannot start."""


class Server:
    """A fork server. Use it as a context manager.

    Args:
        env: environment variables of the server and its children, added to those of this process.
        preload: modules that the server imports once. Its children import other modules themselves.
    """

    def __init__(
        self, env: Mapping[str, str] | None = None, *, preload: Sequence[str] = ("bench.runner.process.child",)
    ) -> None:
        self.server_id = uuid.uuid4().hex[:12]
        self._folder = tempfile.TemporaryDirectory(prefix=f"{FOLDER_PREFIX}{owner_token()}-")
        self._errors = Path(self._folder.name) / "server.log"
        with self._errors.open("wb") as errors:
            # In a new session, Ctrl-C reaches only the parent, which then ends the child.
            self._process = subprocess.Popen(
                # -P: the caller's folder may be another revision of this repository and must not be imported from.
                [sys.executable, "-P", "-m", "bench.runner.process.forkserver", *preload],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=_environment(env or {}),
                start_new_session=True,
            )
        self._messages: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        self._ready = False

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """End the server and the child that still runs."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()  # the server ends when its input ends
        try:
            self._process.wait(KILL_GRACE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._listener.join(KILL_GRACE_S)
        self._process.stdout.close()
        self._folder.cleanup()

    def run(
        self, call: str, argument: Any, *, log: Path, timeout_s: float, waited_s: Callable[[], float] = lambda: 0.0
    ) -> Outcome:
        """Run a function in a new child, and return its outcome.

        Args:
            call: ``module:function``.
            argument: argument of the function. It must be convertible to JSON.
            log: file to which the output of the child is appended.
            timeout_s: seconds after which the child is killed.
            waited_s: returns seconds that do not count for the timeout, because the child waited for its turn.

        Raises:
            ServerLost: the server has ended, so that it cannot fork.
        """
        self.await_ready()
        started = time.perf_counter()
        result = Path(self._folder.name) / f"{uuid.uuid4().hex}.json"
        job = {"call": call, "argument": argument, "log": str(log), "result": str(result)}
        self._send(job)
        pid = int(self._receive(KILL_GRACE_S)["started"])
        try:
            code = self._await_exit(pid, timeout_s, waited_s)
        except BaseException:
            self._kill(pid)
            raise
        answer, measured_s = _read_answer(result, code, timeout_s)
        return Outcome(answer=answer, measured_s=measured_s, wall_s=time.perf_counter() - started)

    def await_ready(self) -> None:
        """Return when the server has imported its modules.

        Raises:
            ServerLost: the server has ended.
        """
        if not self._ready:
            self._receive(START_TIMEOUT_S)
            self._ready = True

    def _await_exit(self, pid: int, timeout_s: float, waited_s: Callable[[], float]) -> int | None:
        """Return the exit code of the child (negative: a signal), or ``None`` after a timeout."""
        deadline, left_s = time.perf_counter() + timeout_s - waited_s(), timeout_s
        while left_s > 0:
            with contextlib.suppress(queue.Empty):
                return int(self._next_message(left_s)["exited"])
            left_s = deadline + waited_s() - time.perf_counter()
        self._kill(pid)
        try:
            self._next_message(KILL_GRACE_S)
        except queue.Empty:
            raise ServerLost(f"process {pid} could not be killed. It may hang in a driver call") from None
        return None

    def _kill(self, pid: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)

    def _send(self, job: Mapping[str, Any]) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(job).encode() + b"\n")
            self._process.stdin.flush()
        except OSError as error:
            raise ServerLost(self._end_reason()) from error

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._messages.put(json.loads(line))
        self._messages.put(None)

    def _receive(self, timeout_s: float) -> dict[str, Any]:
        try:
            return self._next_message(timeout_s)
        except queue.Empty:
            raise ServerLost(f"the fork server did not answer within {timeout_s:g} s") from None

    def _next_message(self, timeout_s: float) -> dict[str, Any]:
        message = self._messages.get(timeout=timeout_s)
        if message is None:
            self._messages.put(None)  # so that the next call raises at once, too
            raise ServerLost(self._end_reason())
        return message

    def _end_reason(self) -> str:
        lines = self._errors.read_text(errors="replace").strip().splitlines()
        return f"the fork server ended: {lines[-1] if lines else 'it printed no error'}"


def remove_left_folders() -> None:
    """Remove the temporary folders of servers whose process was killed."""
    for path in Path(tempfile.gettempdir()).glob(f"{FOLDER_PREFIX}*"):
        token = path.name.removeprefix(FOLDER_PREFIX).rpartition("-")[0]
        with contextlib.suppress(OSError):
            if path.is_dir() and not path.is_symlink() and path.stat().st_uid == os.getuid() and is_dead(token):
                shutil.rmtree(path)


def _read_answer(result: Path, code: int | None, timeout_s: float) -> tuple[Answer, float]:
    if code is None:
        return Answer(status="timeout", status_reason=f"killed after timeout_s={timeout_s:g}"), timeout_s
    if not result.exists():
        return Answer(status="crashed", status_reason=_exit_reason(code)), 0.0
    content = json.loads(result.read_text(encoding="utf-8"))
    result.unlink()
    measured_s = content.pop("measured_s")
    return Answer(**content), measured_s


def _exit_reason(code: int) -> str:
    if code < 0:
        return f"ended by signal {-code} ({signal.Signals(-code).name})"
    return f"ended with exit code {code} and no answer"


def _environment(changes: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a fork server. This repository comes first on its import path."""
    whole = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONUNBUFFERED": "1", **changes}
    inherited = [path for path in whole.get("PYTHONPATH", "").split(os.pathsep) if path]
    return {**whole, "PYTHONPATH": os.pathsep.join([str(ROOT), *inherited])}
