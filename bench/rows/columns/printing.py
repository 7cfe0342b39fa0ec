"""Values of columns as text, and the columns of each printed table."""

from __future__ import annotations

from typing import Any

import pandas as pd

from bench.config.numbers import NO_VALUE, number_text, size_text
from bench.rows.columns import BY_NAME, COLUMNS
from bench.rows.columns.column import Column, PrintedTable


def printed_in(table: PrintedTable) -> list[Column]:
    """Return the columns of a printed table, in its order."""
    return sorted((column for column in COLUMNS if table in column.tables), key=lambda column: column.place)


def value_text(name: str, value: Any) -> str:
    """Return a value of a column as text. Columns that are computed from rows are printed by their suffix.

    >>> value_text("decode_us", 12.3456), value_text("pool_bytes", 2**20), value_text("page_size", 1024)
    ('12.35', '1 MiB', '1024')
    """
    if pd.isna(value):
        return NO_VALUE
    column = BY_NAME.get(name) or Column(name=name, kind="record", meaning="")
    if isinstance(value, (str, bool)) or (column.kind == "identity" and column.unit != "bytes" and value == int(value)):
        return str(value)
    return size_text(value) if column.unit == "bytes" else number_text(value, column.digits)
