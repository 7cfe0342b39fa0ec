"""Read published request traces. The first line identifies the format, and the content plain text or gzip."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain

from bench.workload.request_columns import Requests
from bench.workload.traces.csv_files import CSV_SCHEMAS, read_csv
from bench.workload.traces.files import NumberedLines, TraceError, bad_line, file_sha256, numbered_lines
from bench.workload.traces.json_lines import JSONL_SCHEMAS, parse_object, read_jsonl
from bench.workload.traces.sessions import SESSION_KEYS, read_sessions

__all__ = ["Trace", "TraceError", "file_sha256", "load_trace"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Trace:
    """A trace file, read and checked.

    Attributes:
        schema: the recognised format, such as ``Azure``.
        requests: in file order. Arrivals in seconds, from the earliest if the file has time stamps.
        failed: requests that failed when the trace was recorded. They are not in ``requests``.
    """

    schema: str
    requests: Requests
    failed: int = 0


def load_trace(path: str, block_tokens: int | None = None) -> Trace:
    """Read a trace file.

    Args:
        path: path of a file in one of the known formats, plain or gzip.
        block_tokens: tokens per entry of ``hash_ids``. ``None``: as in the published traces of the format.

    Raises:
        TraceError: the file is missing, unreadable, empty or of no known format, or a line is bad. Names
            ``workload.path`` and the line, counted from 1 in the unpacked file.
    """
    chunks = numbered_lines(path)
    numbers, lines = next(chunks, ([], []))
    if not lines:
        raise TraceError(f"workload.path={path} is empty")
    if lines[0].startswith("{"):
        trace = _load_jsonl(path, numbers, lines, chunks, block_tokens)
    else:
        trace = _load_csv(path, numbers, lines, chunks)
    if block_tokens is not None and trace.requests.hash_ids is None:
        raise TraceError(f"workload.block_tokens={block_tokens} must be null: workload.path={path} has no hash_ids")
    return trace


def _load_jsonl(
    path: str, numbers: list[int], lines: list[str], more: Iterator[NumberedLines], block_tokens: int | None
) -> Trace:
    keys = parse_object(path, numbers[0], lines[0]).keys()
    chunks = chain([(numbers, lines)], more)
    if keys >= SESSION_KEYS:
        return Trace(schema="sessions", requests=read_sessions(path, chunks))
    for schema in JSONL_SCHEMAS:
        if keys >= set(schema.keys):
            used = schema if block_tokens is None else replace(schema, block_tokens=block_tokens)
            return Trace(schema=schema.name, requests=read_jsonl(path, used, chunks))
    raise _unknown(path, lines[0])


def _load_csv(path: str, numbers: list[int], lines: list[str], more: Iterator[NumberedLines]) -> Trace:
    header = [name.strip() for name in lines[0].split(",")]
    for schema in CSV_SCHEMAS:
        if set(header).issuperset(schema.column_names):
            twice = [name for name in schema.column_names if header.count(name) > 1]
            if twice:
                raise bad_line(path, numbers[0], f"names the column {twice[0]} {header.count(twice[0])} times")
            first = [(numbers[1:], lines[1:])] if lines[1:] else []
            requests, failed = read_csv(path, schema, header, chain(first, more))
            return Trace(schema=schema.name, requests=requests, failed=failed)
    raise _unknown(path, lines[0])


def _unknown(path: str, first_line: str) -> TraceError:
    known = [f"{schema.name} ({','.join(schema.column_names)})" for schema in CSV_SCHEMAS]
    known.append(f"sessions (JSON lines with {', '.join(sorted(SESSION_KEYS))})")
    known += [f"{schema.name} (JSON lines with {', '.join(schema.keys)})" for schema in JSONL_SCHEMAS]
    return TraceError(
        f"workload.path={path} begins with {first_line[:60]!r}, which is no known format. "
        f"The known formats are {', '.join(known)}"
    )
