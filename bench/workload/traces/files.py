"""Trace files as text, plain or gzip by their content, with the line numbers that an editor shows."""

from __future__ import annotations

import gzip
import hashlib
import io
import itertools
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_CHUNK_LINES = 65_536  # bounds memory where a trace has tens of millions of lines
_CHUNK_BYTES = 2**20
_GZIP_MAGIC = b"\x1f\x8b"

NumberedLines = tuple[list[int], list[str]]
"""Line numbers, counted from 1 in the unpacked file, and those lines, stripped."""


class TraceError(ValueError):
    """A trace file is missing, unreadable, of no known schema, or has a bad line. The message names the problem."""


def bad_line(path: str, line: int, problem: str) -> TraceError:
    """Return the error of one line of the unpacked file."""
    return TraceError(f"workload.path={path}, line {line}: {problem}")


def file_sha256(path: str) -> str:
    """Return the hex SHA-256 of the unpacked content, so that packing does not change the identity of a trace.

    Raises:
        TraceError: the file is missing or unreadable.
    """
    digest = hashlib.sha256()
    with _open_unpacked(path) as file:
        while block := file.read(_CHUNK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def numbered_lines(path: str) -> Iterator[NumberedLines]:
    """Yield chunks of the file's lines without blank lines. No chunk is empty.

    Raises:
        TraceError: the file is missing or unreadable.
    """
    with _open_unpacked(path) as file:
        # A binary file must give the error of an unknown schema, not a decoding error.
        text = io.TextIOWrapper(file, encoding="utf-8-sig", errors="replace")
        first = 1
        while chunk := list(itertools.islice(text, _CHUNK_LINES)):
            lines = [line.strip() for line in chunk]
            numbers = [number for number, line in enumerate(lines, first) if line]
            first += len(chunk)
            if numbers:
                yield numbers, list(filter(None, lines))


@contextmanager
def _open_unpacked(path: str) -> Iterator[io.BufferedReader | gzip.GzipFile]:
    try:
        with Path(path).open("rb") as packed:
            if packed.peek(len(_GZIP_MAGIC)).startswith(_GZIP_MAGIC):
                with gzip.GzipFile(fileobj=packed) as unpacked:
                    yield unpacked
            else:
                yield packed
    except FileNotFoundError:
        raise TraceError(f"workload.path={path} does not exist") from None
    except (OSError, EOFError, zlib.error) as error:
        raise TraceError(f"workload.path={path} cannot be read: {error}") from error
