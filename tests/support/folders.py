"""Run folders with synthetic rows, in the format of a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.rows.columns import NAMES
from bench.rows.json_file import write_json
from bench.rows.record import write_row
from bench.rows.table import load_rows, write_table
from tests.support.sides import FACTS, row


def write_folder(
    folder: Path,
    rows: Sequence[dict[str, Any]],
    *,
    replicates: int | None = None,
    facts: dict[str, Any] | None = None,
    table: bool = False,
) -> Path:
    (folder / "points").mkdir(parents=True)
    (folder / "samples").mkdir()
    for values in rows:
        write_row(folder, {"null_reasons": dict.fromkeys(NAMES, "a test's row"), **values}, {})
    keys = list(dict.fromkeys(values["key"] for values in rows))
    planned = replicates or max((values["replicate"] for values in rows), default=0) + 1
    write_json(folder / "plan.json", {"points": [{"key": key} for key in keys], "replicates": planned})
    write_json(folder / "environment.json", {"schema_version": 1, **FACTS, **(facts or {})})
    if table:
        write_table(load_rows(folder), folder)
    return folder


def times(folder: Path, scale: float = 1.0, replicates: int = 6, **how: Any) -> Path:
    """Two points, timed, with a counter each."""
    rows = [
        row(key, replicate, decode_us=scale * (100.0 + replicate % 2), peak_pages=7)
        for replicate in range(replicates)
        for key in ("a", "b")
    ]
    return write_folder(folder, rows, **how)
