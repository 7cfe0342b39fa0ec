"""Traces published as sessions: a JSON line per session, with the model calls of every turn (Azure, coding agents)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import numpy as np

from bench.workload.request_columns import Requests
from bench.workload.traces.cells import utc_times
from bench.workload.traces.files import NumberedLines, TraceError, bad_line
from bench.workload.traces.json_lines import parse_object, token_count

SESSION_KEYS: Final = frozenset({"session_id", "turns"})
"""Keys that identify the format."""

_TIMES: Final = utc_times("timestamp")


def read_sessions(path: str, chunks: Iterable[NumberedLines]) -> Requests:
    """Return a request per model call, in the order of the file. Prefixes are not known.

    Args:
        path: path of the trace, for errors.
        chunks: all lines of the file.

    Raises:
        TraceError: a bad line, or no call at all.
    """
    numbers: list[int] = []
    calls: list[tuple[int, int, str]] = []
    for lines in chunks:
        for number, line in zip(*lines, strict=True):
            found = list(_calls_of(path, number, parse_object(path, number, line)))
            calls += found
            numbers += [number] * len(found)
    if not calls:
        raise TraceError(f"workload.path={path} has no requests: no turn has llm_calls")
    prompts, outputs, stamps = zip(*calls, strict=True)
    times = _TIMES.read(path, numbers, stamps)
    return Requests(
        prompt_lens=np.array(prompts, dtype=np.int64),
        output_lens=np.array(outputs, dtype=np.int64),
        arrivals_s=np.asarray((times - times.min()) / np.timedelta64(1, "s"), dtype=np.float64),
    )


def _calls_of(path: str, number: int, session: Mapping[str, Any]) -> Iterator[tuple[int, int, str]]:
    """Yield prompt tokens, output tokens and time stamp of every call of a session."""
    try:
        for turn in session["turns"]:
            for call in turn["llm_calls"]:
                tokens = call["tokens"]
                yield (
                    token_count(tokens, "prompt", least=1),
                    token_count(tokens, "completion", least=0),
                    str(call["timestamp"]),
                )
    except KeyError as error:
        raise bad_line(path, number, f"has no {error.args[0]}") from None
    except TypeError:
        raise bad_line(path, number, "turns, llm_calls and tokens must be lists and objects") from None
    except ValueError as error:
        raise bad_line(path, number, str(error)) from None
