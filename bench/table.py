"""All rows of a run as one table: loaded from the rows, written beside them."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from bench.columns import COLUMNS, NAMES
from bench.record import read_row


def load_rows(run_dir: Path) -> pd.DataFrame:
    """The rows of a run folder, one per point and replicate, in the order of its plan.

    Raises:
        ValueError: no run folder, or a row that is not whole or is newer than this version.
    """
    if not (run_dir / "plan.json").is_file():
        raise ValueError(f"{run_dir} is no run folder: it has no plan.json")
    rows = [read_row(path) for path in sorted((run_dir / "points").glob("*.json"))]
    plan = json.loads((run_dir / "plan.json").read_text(encoding="utf-8"))
    order = {point["key"]: rank for rank, point in enumerate(plan["points"])}
    rows.sort(key=lambda row: (order.get(row["key"], len(order)), row["replicate"]))
    # Nullable types: whole numbers stay whole beside nulls.
    return pd.DataFrame(rows, columns=list(NAMES)).astype({column.name: column.dtype for column in COLUMNS})


def write_table(table: pd.DataFrame, run_dir: Path) -> None:
    """Write ``table.csv`` and ``table.parquet``; null reasons as JSON text."""
    flat = table.assign(null_reasons=[json.dumps(reasons or {}) for reasons in table["null_reasons"]])
    for name, write in (("table.csv", flat.to_csv), ("table.parquet", flat.to_parquet)):
        fresh = run_dir / f".{name}.tmp"
        write(fresh, index=False)
        fresh.replace(run_dir / name)
