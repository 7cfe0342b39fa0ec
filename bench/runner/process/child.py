"""The code of a forked child: call one function, turn an exception into a result, and write the result."""

from __future__ import annotations

import importlib
import time
import traceback
from pathlib import Path
from typing import Any

from bench.rows.json_file import write_json
from bench.rows.result import Answer, WrongOutput
from impls.interface import Unsupported


def run(job: dict[str, Any]) -> None:
    """Call ``job["call"]`` ("module:function") with ``job["argument"]``, and write the result to ``job["result"]``.

    The function returns an ``Answer``. If it raises ``Unsupported``, the status is ``unsupported``. After an
    out-of-memory error it is ``oom``. After any other exception it is ``crashed``, and the log has the traceback.
    """
    started = time.perf_counter()
    module, _, function = job["call"].partition(":")
    try:
        answer: Answer = getattr(importlib.import_module(module), function)(job["argument"])
    except Unsupported as error:
        answer = Answer(status="unsupported", status_reason=str(error))
    except WrongOutput as error:
        answer = Answer(status="incorrect", status_reason=str(error), values=error.values)
    except Exception as error:
        traceback.print_exc()
        status = "oom" if _is_out_of_memory(error) else "crashed"
        answer = Answer(status=status, status_reason=f"{type(error).__name__}: {_first_line(error)}")
    write_json(Path(job["result"]), {**answer.to_json(), "measured_s": time.perf_counter() - started}, allow_nan=True)


def _is_out_of_memory(error: Exception) -> bool:
    """Return whether memory ran out. Torch raises OutOfMemoryError for a GPU and RuntimeError for host memory."""
    return type(error).__name__ in ("OutOfMemoryError", "MemoryError") or "can't allocate memory" in str(error)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else "no message"
