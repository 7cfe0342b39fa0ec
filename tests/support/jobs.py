"""Jobs that misbehave inside a child, for the isolation tests."""

from __future__ import annotations

import ctypes
import os
import signal
import time
from typing import Any

from bench.rows.result import Answer
from impls.interface import Unsupported


def behave(argument: dict[str, Any]) -> Answer:
    print("a word in the log")
    return Answer(values={"echo": argument["word"], "pid": os.getpid(), "parent": os.getppid()})


def fail(argument: dict[str, Any]) -> Answer:
    how = argument["how"]
    if how == "raise":
        raise KeyError("planted")
    if how == "unsupported":
        raise Unsupported("this job supports nothing")
    if how == "oom":
        raise MemoryError("planted")
    if how == "segfault":
        ctypes.string_at(0)
    if how == "exit":
        os._exit(7)
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "hang":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(600)
    raise AssertionError(how)
