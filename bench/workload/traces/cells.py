"""Read cells of a CSV trace, a whole column at once: token counts, seconds and time stamps."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.workload.traces.files import bad_line

MAX_TOKENS = 2**31 - 1
MAX_SECONDS = 4_102_444_800
"""Largest number of seconds of a time stamp: the year 2100 in Unix time."""

_FIRST_UNIX_S = 946_684_800  # the year 2000
_FIRST_TIME, _END_TIME = np.datetime64("2000-01-01", "ns"), np.datetime64("2100-01-01", "ns")
_WHOLE = re.compile(r" *-?[0-9]{1,19} *")
_DECIMAL = re.compile(r" *-?[0-9]{1,40}(\.[0-9]{0,40})?([eE][+-]?[0-9]{1,2})? *")
_STAMP = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[ T][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?(Z|\+00:00)?")


@dataclass(frozen=True, kw_only=True)
class CellColumn:
    """How the cells of one column are read.

    Attributes:
        name: name in the header of the file.
        parse: parses all cells at once. Raises ``ValueError`` or ``OverflowError`` if a cell is bad.
        expected: description of a good cell, for the error.
    """

    name: str
    parse: Callable[[Sequence[str]], NDArray[Any]]
    expected: str

    def read(self, path: str, numbers: Sequence[int], cells: Sequence[str]) -> NDArray[Any]:
        """Return the values of the column.

        Args:
            path: path of the trace, for the error.
            numbers: line of each cell in the file.
            cells: text of the column.

        Raises:
            TraceError: the first bad cell, by line.
        """
        try:
            return self.parse(cells)
        except (ValueError, OverflowError):
            pairs = list(zip(numbers, cells, strict=True))
            bad = [pair for pair in pairs if self._is_bad([pair[1]])][:1]
            line, cell = bad[0] if bad else next(pair for pair in pairs if self._is_bad([cells[0], pair[1]]))
            raise bad_line(path, line, f"{self.name}={cell!r} must be {self.expected}") from None

    def _is_bad(self, cells: Sequence[str]) -> bool:
        try:
            self.parse(cells)
        except (ValueError, OverflowError):
            return True
        return False


def tokens(name: str, *, least: int) -> CellColumn:
    """Return a column of token counts, ``least .. MAX_TOKENS``, as int64."""

    def parse(cells: Sequence[str]) -> NDArray[Any]:
        _check_form(_WHOLE, cells)
        values = np.array(list(map(int, cells)), dtype=np.int64)
        if np.any((values < least) | (values > MAX_TOKENS)):
            raise ValueError("out of range")
        return values

    return CellColumn(name=name, parse=parse, expected=f"a whole number of tokens, at least {least}")


def seconds(name: str) -> CellColumn:
    """Return a column of seconds since the trace began, as float64."""

    def parse(cells: Sequence[str]) -> NDArray[Any]:
        _check_form(_DECIMAL, cells)
        values = np.array(list(map(float, cells)))
        if not np.all((values >= 0) & (values <= MAX_SECONDS)):
            raise ValueError("out of range")
        return values

    return CellColumn(name=name, parse=parse, expected=f"a number of seconds from 0 to {MAX_SECONDS}")


def utc_times(name: str) -> CellColumn:
    """Return a column of time stamps in UTC, as datetime64[ns].

    Azure's time stamps of 2023 have seven fractional digits and no time zone. Those of 2024 end in ``+00:00``, those
    of 2025 in ``Z``, and some have no fraction. A number is Unix time, in the unit in which it is a time from 2000 to
    2100: seconds, milliseconds, microseconds or nanoseconds. All cells have one form.
    """

    def parse(cells: Sequence[str]) -> NDArray[Any]:
        unix = bool(cells) and _DECIMAL.fullmatch(cells[0]) is not None
        _check_form(_DECIMAL if unix else _STAMP, cells)
        if unix:
            return np.array([_unix_ns(cell) for cell in cells], dtype="datetime64[ns]")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            values = np.array([cell.removesuffix("Z").removesuffix("+00:00") for cell in cells], dtype="datetime64[ns]")
        if np.any((values < _FIRST_TIME) | (values >= _END_TIME)):
            raise ValueError("out of range")
        return values

    return CellColumn(
        name=name,
        parse=parse,
        expected="a time in UTC from 2000 to 2100, such as 2023-11-16 18:15:46.6805900 or 2025-01-31T00:00:00Z, or "
        "Unix time (s, ms, µs or ns). All lines have the same form",
    )


def _unix_ns(cell: str) -> int:
    """Return nanoseconds since 1970. The unit is the one in which the number is a time from 2000 to 2100."""
    value = Fraction(cell)
    for ns in (10**9, 10**6, 10**3, 1):
        if _FIRST_UNIX_S * 10**9 <= value * ns < MAX_SECONDS * 10**9:
            return int(value * ns)
    raise ValueError("out of range")


def _check_form(form: re.Pattern[str], cells: Sequence[str]) -> None:
    """Check the form of all cells. ``int`` and ``float`` accept ``1_000`` and digits of other scripts.

    Raises:
        ValueError: a cell has another form.
    """
    if not all(map(form.fullmatch, cells)):
        raise ValueError("another form")


def blank(name: str) -> CellColumn:
    """Return an empty column, as NaN."""

    def parse(cells: Sequence[str]) -> NDArray[Any]:
        if any(cells):
            raise ValueError("not blank")
        return np.full(len(cells), np.nan)

    return CellColumn(name=name, parse=parse, expected="blank, as it is for the first request")
