"""All rows of a run as one table, which is loaded from the rows and written beside them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from bench.rows.columns import COLUMNS, NAMES
from bench.rows.json_file import replacing
from bench.rows.json_input import check_shape, read_json
from bench.rows.neutral import for_spreadsheet
from bench.rows.record import SCHEMA_VERSION, read_row


def load_rows(run_dir: Path) -> pd.DataFrame:
    """Return the rows of a run folder, one per point and replicate, in the order of its plan.

    Raises:
        ValueError: the folder is no run folder, or a row is not whole or is newer than this version.
    """
    if not (run_dir / "plan.json").is_file():
        raise ValueError(f"{run_dir} is no run folder: it has no plan.json")
    rows = [read_row(path) for path in sorted((run_dir / "points").glob("*.json"))]
    plan = read_json(run_dir / "plan.json", "plan")
    check_shape(plan, {"points": [{"key": str}]}, run_dir / "plan.json")
    order = {point["key"]: rank for rank, point in enumerate(plan["points"])}
    rows.sort(key=lambda row: (order.get(row["key"], len(order)), row["replicate"]))
    return typed(rows, run_dir)


def typed(rows: Sequence[Mapping[str, Any]], run_dir: Path) -> pd.DataFrame:
    """Return rows as a table whose columns have the registry's types. Absent columns are null.

    Raises:
        ValueError: a column is not in the registry (for example with another unit), or a value has another type.
    """
    unknown = sorted({name for row in rows for name in row} - set(NAMES))
    if unknown:
        raise ValueError(f"{run_dir}: column {unknown[0]} is not known here{_other_unit(unknown[0])}")
    columns = {}
    for column in COLUMNS:
        values = pd.Series([row.get(column.name) for row in rows], dtype="object")
        try:
            if column.dtype != "object" and any(isinstance(value, (str, bool)) for value in values):
                raise TypeError  # pandas would read "12" and true as numbers
            # Nullable types: whole numbers stay whole beside nulls.
            columns[column.name] = values.astype(column.dtype)  # type: ignore[call-overload]
        except (TypeError, ValueError, OverflowError):
            wrong = next(value for value in values if not _fits(value, column.dtype))
            raise ValueError(f"{run_dir}: {column.name}={wrong!r} must be a number ({column.dtype})") from None
    return pd.DataFrame(columns)


def empty_table(rows: int) -> pd.DataFrame:
    """Return a table of nulls, of the registry's types."""
    nulls = {column.dtype: pd.Series([None] * rows, dtype=column.dtype) for column in COLUMNS}
    return pd.DataFrame({column.name: nulls[column.dtype] for column in COLUMNS})


def _fits(value: Any, dtype: str) -> bool:
    try:
        pd.Series([value], dtype="object").astype(dtype)  # type: ignore[call-overload]
    except (TypeError, ValueError, OverflowError):
        return False
    return not isinstance(value, (str, bool))


def _other_unit(name: str) -> str:
    """Return the end of the sentence about an unknown column: a column like it with another unit, if there is one."""
    stem = name.rpartition("_")[0]
    alike = [column.name for column in COLUMNS if column.unit and column.name.rpartition("_")[0] == stem]
    return f". There is {alike[0]}, and units are not converted" if alike else ". A newer version may have made it"


def write_table(table: pd.DataFrame, run_dir: Path) -> None:
    """Write ``table.csv`` and ``table.parquet``, with null reasons as JSON text."""
    flat = table.assign(null_reasons=[json.dumps(reasons or {}) for reasons in table["null_reasons"]])
    flat.attrs["schema_version"] = SCHEMA_VERSION
    for name, write in (("table.csv", for_spreadsheet(flat).to_csv), ("table.parquet", flat.to_parquet)):
        with replacing(run_dir / name) as fresh:
            write(fresh, index=False)
