"""Trace files as text, plain or gzip by their content, with the line numbers that an editor shows."""

from __future__ import annotations

import gzip
import hashlib
import io
import itertools
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.rows.json_input import NotAFile, open_regular

_CHUNK_LINES = 65_536  # bounds memory where a trace has tens of millions of lines
_CHUNK_BYTES = 2**20
MAX_LINE = 2**22
"""Most characters of a line. The longest line of a published trace has fewer than 100,000."""
MAX_RATIO = 200
MIN_UNPACKED = 2**25
"""Bytes that every gzip file may unpack to. A larger one may have ``MAX_RATIO`` times its packed size."""
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
        while chunk := list(itertools.islice(_lines(text, path), _CHUNK_LINES)):
            lines = [line.strip() for line in chunk]
            numbers = [number for number, line in enumerate(lines, first) if line]
            first += len(chunk)
            if numbers:
                yield numbers, list(filter(None, lines))


def _lines(text: io.TextIOWrapper, path: str) -> Iterator[str]:
    """Yield lines. A file without line ends must not fill the memory.

    Raises:
        TraceError: a line is too long.
    """
    while line := text.readline(MAX_LINE + 1):
        if len(line) > MAX_LINE:
            raise TraceError(f"workload.path={path} must have lines of at most {MAX_LINE:,} characters")
        yield line


class _LimitedGzip(gzip.GzipFile):
    """A gzip file that refuses to unpack to far more than a trace can: a small file can otherwise fill the memory."""

    def __init__(self, packed: io.BufferedReader) -> None:
        super().__init__(fileobj=packed)
        self._limit = max(MIN_UNPACKED, MAX_RATIO * os.fstat(packed.fileno()).st_size)

    def read1(self, size: int = -1) -> bytes:
        """Read like ``GzipFile``."""
        return self._checked(super().read1(size))

    def read(self, size: int | None = -1) -> bytes:
        """Read like ``GzipFile``."""
        return self._checked(super().read(size))

    def _checked(self, block: bytes) -> bytes:
        if self.tell() > self._limit:
            raise OSError(f"it unpacks to more than {MAX_RATIO} times its size")
        return block


@contextmanager
def _open_unpacked(path: str) -> Iterator[io.BufferedReader | gzip.GzipFile]:
    try:
        with open_regular(Path(path)) as packed:
            if packed.peek(len(_GZIP_MAGIC)).startswith(_GZIP_MAGIC):
                with _LimitedGzip(packed) as unpacked:
                    yield unpacked
            else:
                yield packed
    except FileNotFoundError:
        raise TraceError(f"workload.path={path} does not exist") from None
    except TraceError:
        raise
    except NotAFile as error:
        raise TraceError(f"workload.path={error}") from None
    except (OSError, EOFError, zlib.error) as error:
        raise TraceError(f"workload.path={path} cannot be read: {error}") from error
