"""Numbers as text for people: one form in tables, reports, figures, comparisons, claims and messages."""

from __future__ import annotations

import math
from typing import Final

NO_VALUE: Final = "–"
"""Text of a value that was not measured."""

_MIB, _GIB = 2**20, 2**30


def number_text(value: float, digits: int = 4) -> str:
    """Return a number with thousands separators: whole numbers in full, fractions to ``digits`` significant digits.

    A fraction with more digits before the point is rounded to a whole number.

    >>> [number_text(value) for value in (15729, 15729.4, 2.0625, 0.00012345, 1.5e-9)]
    ['15,729', '15,729', '2.062', '0.0001234', '1.5e-09']
    """
    if math.isfinite(value) and value == int(value):
        return f"{int(value):,}"
    return f"{value:,.0f}" if abs(value) >= 10 ** (digits - 1) else f"{value:,.{digits}g}"


def counted(count: int, noun: str) -> str:
    """Return a count with its noun, in the plural unless the count is 1. The noun forms its plural with an s.

    >>> counted(1, "point"), counted(1200, "point")
    ('1 point', '1,200 points')
    """
    return f"{number_text(count)} {noun}{'' if count == 1 else 's'}"


def size_text(num_bytes: float) -> str:
    """Return bytes as MiB or GiB.

    >>> [size_text(num_bytes) for num_bytes in (3 * 2**20, 2**29 + 2**19, 40 * 2**30, -(2**10))]
    ['3 MiB', '512.5 MiB', '40 GiB', '-0.0009766 MiB']
    """
    unit, symbol = (_GIB, "GiB") if abs(num_bytes) >= _GIB else (_MIB, "MiB")
    return f"{number_text(num_bytes / unit)} {symbol}"


def exact_size_text(num_bytes: float) -> str:
    """Return bytes as MiB or GiB if that text loses no byte, otherwise as a number of bytes.

    >>> exact_size_text(3 * 2**20), exact_size_text(3 * 2**20 + 1)
    ('3 MiB', '3,145,729')
    """
    text = size_text(num_bytes)
    short, _, symbol = text.partition(" ")
    return (
        text
        if float(short.replace(",", "")) * (_GIB if symbol == "GiB" else _MIB) == num_bytes
        else number_text(num_bytes)
    )


def change_text(ratio: float) -> str:
    """Return a ratio as a signed difference in percent.

    >>> change_text(1.25), change_text(0.5)
    ('+25.0 %', '-50.0 %')
    """
    return f"{100 * (ratio - 1):+.1f} %"


def percent_text(fraction: float) -> str:
    """Return a fraction in percent.

    >>> percent_text(0.02)
    '2.0 %'
    """
    return f"{100 * fraction:.1f} %"
