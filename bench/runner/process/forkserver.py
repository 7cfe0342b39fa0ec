"""The process from which points are forked: ``python -m bench.runner.process.forkserver MODULE…`` (see ``server.py``).

It imports the heavy modules once and makes no CUDA call. Then it reads one job per line from its standard input, and
forks a child for each. The input ends when the parent closes it or dies. Then the server kills the running child and
ends.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import selectors
import signal
import sys
from typing import Any

from bench.config import resolve_types


def main(preload: list[str]) -> None:
    """Import the modules, then run jobs until the standard input ends."""
    for name in preload:
        importlib.import_module(name)
    resolve_types()
    gc.collect()
    gc.freeze()  # the collectors of children skip the imported objects, and so do not copy their pages
    wake_read = _wake_on_child_exit()
    _send({"ready": os.getpid()})
    selector = selectors.DefaultSelector()
    selector.register(sys.stdin.fileno(), selectors.EVENT_READ)
    selector.register(wake_read, selectors.EVENT_READ)
    pid, pending = 0, b""
    while True:
        for key, _ in selector.select():
            if key.fd == wake_read:
                with contextlib.suppress(BlockingIOError):
                    os.read(wake_read, 512)
                pid = _reap(pid)
                continue
            received = os.read(sys.stdin.fileno(), 65536)
            if not received:
                if pid:
                    os.killpg(pid, signal.SIGKILL)
                return
            *lines, pending = (pending + received).split(b"\n")
            for line in lines:
                pid = _fork(json.loads(line))
                _send({"started": pid})


def _wake_on_child_exit() -> int:
    """Return a file descriptor that becomes readable when a child ends."""
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_read, False)
    os.set_blocking(wake_write, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)  # without a handler, Python does not write to the descriptor
    signal.set_wakeup_fd(wake_write)
    return wake_read


def _reap(pid: int) -> int:
    """Report the exit code of the child if it has ended. Return the child that still runs, or 0."""
    ended, status = os.waitpid(pid, os.WNOHANG) if pid else (0, 0)
    if not ended:
        return pid
    _send({"exited": os.waitstatus_to_exitcode(status)})
    return 0


def _send(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def _fork(job: dict[str, Any]) -> int:
    pid = os.fork()
    if pid:
        with contextlib.suppress(OSError):  # the child makes the same call, and either may be first
            os.setpgid(pid, pid)
        return pid
    code = 1
    try:
        os.setpgid(0, 0)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        log = os.open(job["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        from bench.runner.process.child import run

        run(job)
        code = 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main(sys.argv[1:])
