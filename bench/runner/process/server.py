"""One job in one process: forked from a server that has torch imported, watched by a clock.

A crash, a hang or a kill of the child becomes an outcome, never an exception of the parent. A new
server is a newly executed interpreter: its children share nothing with those of another.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
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
from bench.rows.result import Answer

KILL_GRACE_S = 10.0
START_TIMEOUT_S = 300.0


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one job."""

    answer: Answer
    measured_s: float  # inside the child
    wall_s: float  # seen from outside


class ServerLost(RuntimeError):
    """The fork server itself has ended or cannot start."""


class Server:
    """A fork server; use as a context manager.

    Args:
        env: environment of the server and of all its children, over the inherited one.
        preload: modules that it imports once; what only some points need, their child imports.
    """

    def __init__(
        self, env: Mapping[str, str] | None = None, *, preload: Sequence[str] = ("bench.runner.process.child",)
    ) -> None:
        self.server_id = uuid.uuid4().hex[:12]
        self._folder = tempfile.TemporaryDirectory(prefix="bench-")
        self._errors = Path(self._folder.name) / "server.log"
        with self._errors.open("wb") as errors:
            # A session of its own: Ctrl-C reaches the parent alone, which then ends the child.
            self._process = subprocess.Popen(
                # -P: not what lies in the caller's folder, which may be another revision of this repository.
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
        """End the server, and with it a child that still runs."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()  # the server's signal to end
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
        """Run ``module:function`` on a JSON-able argument in a fresh child.

        Args:
            call: what to run.
            argument: of the function.
            log: where what it prints goes.
            timeout_s: when it is killed.
            waited_s: a clock of seconds that do not count for that: the child waited for others.

        Raises:
            ServerLost: there is no server to fork from any more.
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
        """Return when it has imported everything.

        Raises:
            ServerLost: it has ended.
        """
        if not self._ready:
            self._receive(START_TIMEOUT_S)
            self._ready = True

    def _await_exit(self, pid: int, timeout_s: float, waited_s: Callable[[], float]) -> int | None:
        """Exit code of the child (negative: a signal), or ``None`` after a timeout."""
        deadline, left_s = time.perf_counter() + timeout_s - waited_s(), timeout_s
        while left_s > 0:
            with contextlib.suppress(queue.Empty):
                return int(self._messages_get(left_s)["exited"])
            left_s = deadline + waited_s() - time.perf_counter()
        self._kill(pid)
        try:
            self._messages_get(KILL_GRACE_S)
        except queue.Empty:
            raise ServerLost(f"process {pid} could not be killed; it may hang in a driver") from None
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
            raise ServerLost(self._last_words()) from error

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._messages.put(json.loads(line))
        self._messages.put(None)

    def _receive(self, timeout_s: float) -> dict[str, Any]:
        try:
            return self._messages_get(timeout_s)
        except queue.Empty:
            raise ServerLost(f"the fork server did not answer within {timeout_s:g} s") from None

    def _messages_get(self, timeout_s: float) -> dict[str, Any]:
        message = self._messages.get(timeout=timeout_s)
        if message is None:
            self._messages.put(None)  # whoever asks again is told at once, too
            raise ServerLost(self._last_words())
        return message

    def _last_words(self) -> str:
        lines = self._errors.read_text(errors="replace").strip().splitlines()
        return f"the fork server ended: {lines[-1] if lines else 'without a word'}"


def _read_answer(result: Path, code: int | None, timeout_s: float) -> tuple[Answer, float]:
    if code is None:
        return Answer(status="timeout", status_reason=f"killed after timeout_s={timeout_s:g}"), timeout_s
    if not result.exists():
        return Answer(status="crashed", status_reason=_how_it_ended(code)), 0.0
    content = json.loads(result.read_text(encoding="utf-8"))
    result.unlink()
    measured_s = content.pop("measured_s")
    return Answer(**content), measured_s


def _how_it_ended(code: int) -> str:
    if code < 0:
        return f"ended by signal {-code} ({signal.Signals(-code).name})"
    return f"ended with exit code {code} and no answer"


def _environment(changes: Mapping[str, str]) -> dict[str, str]:
    """Of a fork server: it imports what lies beside this file, whatever else may be called the same."""
    whole = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONUNBUFFERED": "1", **changes}
    inherited = [path for path in whole.get("PYTHONPATH", "").split(os.pathsep) if path]
    return {**whole, "PYTHONPATH": os.pathsep.join([str(ROOT), *inherited])}
