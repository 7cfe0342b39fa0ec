"""Load one side: a run folder, or JSON of pytest-benchmark. Damaged data is refused.

The rows are authoritative. ``table.parquet`` replaces them only if it is younger than every row and
of this version. Then ten thousand points load in a second.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pandas as pd

from bench.compare.benchmarks import is_benchmark, load_benchmarks
from bench.compare.side import Side
from bench.rows.columns import COLUMNS, NAMES
from bench.rows.json_input import read_json
from bench.rows.record import SCHEMA_VERSION, STATUSES
from bench.rows.table import load_rows

INTERLEAVED = "interleaved.json"
"""File of a run folder whose rounds were interleaved with those of another folder."""


def load_side(path: Path) -> Side:
    """Load one side.

    Args:
        path: a run folder, a JSON file of pytest-benchmark, or a folder of these.

    Raises:
        ValueError: it is neither, or it contains data that cannot be compared.
    """
    if is_benchmark(path):
        return load_benchmarks(path)
    if not (path / "plan.json").is_file():
        raise ValueError(f"{path} is no run folder (it has no plan.json) and no JSON of pytest-benchmark")
    plan, facts = _json(path / "plan.json"), _json(path / "environment.json")
    _check_version(facts, path / "environment.json")
    planned = _planned(plan, path / "plan.json")
    table = _table(path)
    check_table(table, str(path))
    return Side(name=str(path), table=table, facts=facts, planned=planned, interleaved=_pairs(path / INTERLEAVED))


def _planned(plan: dict[str, Any], path: Path) -> dict[str, int]:
    """Return the number of planned rows by key."""
    try:
        replicates, keys = plan["replicates"], [point["key"] for point in plan["points"]]
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path} is not a whole plan: {error!r}") from error
    if type(replicates) is not int or replicates < 1:
        raise ValueError(f"{path}: replicates={replicates!r} must be a whole number of at least 1")
    if not all(isinstance(key, str) for key in keys) or len(set(keys)) < len(keys):
        raise ValueError(f"{path}: the keys of its points must be texts without duplicates")
    return dict.fromkeys(keys, replicates)


def _pairs(path: Path) -> str | None:
    """Return the id of the interleaved rounds, or ``None`` if the run was not interleaved."""
    if not path.is_file():
        return None
    pairs = _json(path).get("pairs")
    if not isinstance(pairs, str) or not pairs:
        raise ValueError(f"{path}: pairs={pairs!r} must be a text, as scripts/ab.py writes it")
    return pairs


def _json(path: Path) -> dict[str, Any]:
    try:
        content = read_json(path)
    except FileNotFoundError:
        raise ValueError(f"{path.parent} is no whole run folder: it has no {path.name}") from None
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold a JSON object")
    return content


def _check_version(facts: dict[str, Any], path: Path) -> None:
    version = facts.get("schema_version", SCHEMA_VERSION)
    if type(version) is not int or not 1 <= version <= SCHEMA_VERSION:
        raise ValueError(f"{path} has schema version {version}. This version reads up to {SCHEMA_VERSION}")
    if not isinstance(facts.get("git") or {}, dict):
        raise ValueError(f"{path}: git={facts['git']!r} must be a JSON object")


def _table(run_dir: Path) -> pd.DataFrame:
    stored = run_dir / "table.parquet"
    if stored.is_file() and _is_fresh(stored, run_dir / "points"):
        table = pd.read_parquet(stored)
        if list(table.columns) == list(NAMES) and table.attrs.get("schema_version") == SCHEMA_VERSION:
            return table.astype({column.name: column.dtype for column in COLUMNS})
    return load_rows(run_dir)


def _is_fresh(stored: Path, points: Path) -> bool:
    """Return whether the table was written after every row, and has as many rows."""
    import pyarrow.parquet as parquet

    written = stored.stat().st_mtime_ns
    with os.scandir(points) as entries:
        rows = [entry.stat().st_mtime_ns for entry in entries if entry.name.endswith(".json")]
    try:
        return max(rows, default=0) <= written and len(rows) == parquet.ParquetFile(stored).metadata.num_rows
    except (OSError, ValueError):
        return False


def check_table(table: pd.DataFrame, name: str) -> None:
    """Refuse rows that would make a comparison wrong.

    Raises:
        ValueError: a duplicate row, an unknown status, or a time that is not above zero.
    """
    for column in ("key", "replicate", "status"):
        if table[column].isna().any():
            raise ValueError(f"{name}: a row has no {column}")
    below = table.loc[table["replicate"] < 0, "replicate"]
    if len(below):
        raise ValueError(f"{name}: replicate={below.iloc[0]} must be at least 0")
    twice = table[table.duplicated(["key", "replicate"])]
    if len(twice):
        first = twice.iloc[0]
        raise ValueError(f"{name}: {len(twice)} rows are duplicates, the first is {first['key']}-{first['replicate']}")
    unknown = set(table["status"]) - set(STATUSES)
    if unknown:
        raise ValueError(f"{name}: status={min(unknown)} must be one of {', '.join(STATUSES)}")
    for timed in (column.name for column in COLUMNS if column.kind == "timing" and column.judged):
        values = pd.to_numeric(table[timed], errors="coerce")
        wrong = (values <= 0) | values.isin([float("inf")]) | (values.isna() & table[timed].notna())
        if wrong.any():
            row = table[wrong].iloc[0]
            raise ValueError(
                f"{name}: {timed}={row[timed]} of {row['key']}-{row['replicate']} must be above 0 and finite"
            )
