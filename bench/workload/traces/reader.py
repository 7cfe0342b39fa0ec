"""Read published request traces. The first line identifies the format, and the content plain text or gzip."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

from bench.workload.request_columns import Requests
from bench.workload.traces.csv_files import CSV_SCHEMAS, read_csv
from bench.workload.traces.files import NumberedLines, TraceError, file_sha256, numbered_lines
from bench.workload.traces.json_lines import JSONL_SCHEMAS, parse_object, read_jsonl

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


def load_trace(path: str) -> Trace:
    """Read a trace file.

    Args:
        path: path of a file in one of the known formats, plain or gzip.

    Raises:
        TraceError: the file is missing, unreadable, empty or of no known format, or a line is bad. Names
            ``workload.path`` and the line, counted from 1 in the unpacked file.
    """
    chunks = numbered_lines(path)
    numbers, lines = next(chunks, ([], []))
    if not lines:
        raise TraceError(f"workload.path={path} is empty")
    if lines[0].startswith("{"):
        return _load_jsonl(path, numbers, lines, chunks)
    return _load_csv(path, numbers, lines, chunks)


def _load_jsonl(path: str, numbers: list[int], lines: list[str], more: Iterator[NumberedLines]) -> Trace:
    keys = parse_object(path, numbers[0], lines[0]).keys()
    for schema in JSONL_SCHEMAS:
        if keys >= set(schema.keys):
            return Trace(schema=schema.name, requests=read_jsonl(path, schema, chain([(numbers, lines)], more)))
    raise _unknown(path, lines[0])


def _load_csv(path: str, numbers: list[int], lines: list[str], more: Iterator[NumberedLines]) -> Trace:
    header = [name.strip() for name in lines[0].split(",")]
    for schema in CSV_SCHEMAS:
        if set(header).issuperset(schema.column_names):
            first = [(numbers[1:], lines[1:])] if lines[1:] else []
            requests, failed = read_csv(path, schema, header, chain(first, more))
            return Trace(schema=schema.name, requests=requests, failed=failed)
    raise _unknown(path, lines[0])


def _unknown(path: str, first_line: str) -> TraceError:
    known = [f"{schema.name} ({','.join(schema.column_names)})" for schema in CSV_SCHEMAS]
    known += [f"{schema.name} (JSON lines with {', '.join(schema.keys)})" for schema in JSONL_SCHEMAS]
    return TraceError(
        f"workload.path={path} begins with {first_line[:60]!r}, which is no known format. "
        f"The known formats are {', '.join(known)}"
    )
