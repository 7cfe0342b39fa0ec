"""Read cells of a CSV trace, a whole column at once: token counts, seconds and time stamps."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.workload.traces.files import bad_line

MAX_TOKENS = 2**31 - 1


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
            line, cell = next((line, cell) for line, cell in zip(numbers, cells, strict=True) if self._is_bad(cell))
            raise bad_line(path, line, f"{self.name}={cell!r} must be {self.expected}") from None

    def _is_bad(self, cell: str) -> bool:
        try:
            self.parse([cell])
        except (ValueError, OverflowError):
            return True
        return False


def tokens(name: str, *, least: int) -> CellColumn:
    """Return a column of token counts, ``least .. MAX_TOKENS``, as int64."""

    def parse(cells: Sequence[str]) -> NDArray[Any]:
        values = np.array(list(map(int, cells)), dtype=np.int64)
        if np.any((values < least) | (values > MAX_TOKENS)):
            raise ValueError("out of range")
        return values

    return CellColumn(name=name, parse=parse, expected=f"a whole number of tokens, at least {least}")


def seconds(name: str) -> CellColumn:
    """Return a column of seconds since the trace began, as float64."""

    def parse(cells: Sequence[str]) -> NDArray[Any]:
        values = np.array(list(map(float, cells)))
        if not np.all(np.isfinite(values) & (values >= 0)):
            raise ValueError("out of range")
        return values

    return CellColumn(name=name, parse=parse, expected="a number of seconds, at least 0")


def utc_times(name: str) -> CellColumn:
    """Return a column of time stamps in UTC, as datetime64[ns].

    Azure's time stamps of 2023 have seven fractional digits and no time zone. Those of 2024 end in ``+00:00``, and
    some have no fraction.
    """

    def parse(cells: Sequence[str]) -> NDArray[Any]:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # NumPy only warns about another time zone
            try:
                values = np.array([cell.removesuffix("+00:00") for cell in cells], dtype="datetime64[ns]")
            except (UserWarning, DeprecationWarning) as warning:  # the latter up to NumPy 1.26
                raise ValueError(str(warning)) from None
        if np.any(np.isnat(values)):
            raise ValueError("blank")
        return values

    return CellColumn(name=name, parse=parse, expected="a time in UTC such as 2023-11-16 18:15:46.6805900")


def blank(name: str) -> CellColumn:
    """Return an empty column, as NaN."""

    def parse(cells: Sequence[str]) -> NDArray[Any]:
        if any(cells):
            raise ValueError("not blank")
        return np.full(len(cells), np.nan)

    return CellColumn(name=name, parse=parse, expected="blank, as it is for the first request")
