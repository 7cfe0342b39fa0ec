"""Inside a forked child: call one function, catch what can be caught, write the answer."""

from __future__ import annotations

import importlib
import time
import traceback
from pathlib import Path
from typing import Any

from bench.rows.json_file import write_json
from bench.rows.result import Answer
from impls.interface import Unsupported


def run(job: dict[str, Any]) -> None:
    """Run ``job["call"]`` ("module:function") on ``job["argument"]``; the answer goes to ``job["result"]``.

    The function returns an ``Answer``. An exception becomes one: ``Unsupported`` is
    ``unsupported``, an out-of-memory error ``oom``, anything else ``crashed`` with its traceback
    in the log.
    """
    started = time.perf_counter()
    module, _, function = job["call"].partition(":")
    try:
        answer: Answer = getattr(importlib.import_module(module), function)(job["argument"])
    except Unsupported as error:
        answer = Answer(status="unsupported", status_reason=str(error))
    except Exception as error:
        traceback.print_exc()
        status = "oom" if _is_out_of_memory(error) else "crashed"
        answer = Answer(status=status, status_reason=f"{type(error).__name__}: {_first_line(error)}")
    write_json(Path(job["result"]), {**answer.to_json(), "measured_s": time.perf_counter() - started})


def _is_out_of_memory(error: Exception) -> bool:
    """Torch raises OutOfMemoryError on a device and a plain RuntimeError for host memory."""
    return type(error).__name__ in ("OutOfMemoryError", "MemoryError") or "can't allocate memory" in str(error)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else "no message"
