"""The row: its schema version, and its store, in which no file is ever half-written.

A row is one JSON file per point and replicate, ``points/<key>-<replicate>.json``. Its raw samples are in ``samples/``.
A file is written under a temporary name, synced, then renamed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bench.rows.columns import MAY_BE_NULL, NAMES
from bench.rows.invariants import checked
from bench.rows.json_file import write_json
from bench.rows.json_input import NAME, check_shape, read_json

SCHEMA_VERSION = 1

MIGRATIONS: Mapping[int, Callable[[dict[str, Any]], dict[str, Any]]] = {}
"""By schema version: function from a row of that version to one of the next. A new column needs none, because it is
null in older rows."""

STATUSES = (
    "ok",
    "incorrect",
    "unsupported",
    "oom",
    "oom_predicted",
    "skipped_dominated",
    "timeout",
    "crashed",
    "interrupted",
)
RETRYABLE = frozenset({"interrupted", "crashed", "timeout", "oom"})
"""Statuses that a resumed run tries again, because another attempt can succeed."""

FAILED = frozenset({"incorrect", "oom", "timeout", "crashed", "interrupted"})
"""Statuses that make a run exit with 4."""


def row_path(run_dir: Path, key: str, replicate: int) -> Path:
    """Return the path of one row."""
    return run_dir / "points" / f"{key}-{replicate}.json"


def write_row(run_dir: Path, row: Mapping[str, Any], samples: Mapping[str, Any]) -> str:
    """Store one row and its raw samples. The row is written last, so that its file means that both are whole.

    A row of status ``ok`` that breaks an invariant is stored as ``incorrect`` (see ``bench.rows.invariants``).

    Returns:
        The stored status.

    Raises:
        ValueError: an unknown column or status, or a null without a reason in ``null_reasons``.
    """
    row = complete(checked(row))
    name = f"{row['key']}-{row['replicate']}.json"
    if samples:
        write_json(run_dir / "samples" / name, _all_finite(samples))
    write_json(row_path(run_dir, row["key"], row["replicate"]), {"schema_version": SCHEMA_VERSION, **row})
    return str(row["status"])


def complete(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the row with every column, in order. Absent columns are null, and a status other than ok is their reason.

    Raises:
        ValueError: an unknown column or status, or a null without a reason in ``null_reasons``.
    """
    unknown = set(row) - set(NAMES)
    if unknown:
        raise ValueError(f"no such column: {', '.join(sorted(unknown))}")
    if row["status"] not in STATUSES:
        raise ValueError(f"status={row['status']} must be one of {', '.join(STATUSES)}")
    reasons = dict(row.get("null_reasons") or {})
    if row["status"] == "ok":
        unexplained = [name for name in NAMES if _unexplained(name, row, reasons)]
        if unexplained:
            raise ValueError(f"null without a reason: {', '.join(unexplained)}")
    return {name: reasons if name == "null_reasons" else _finite(row.get(name)) for name in NAMES}


def _unexplained(name: str, row: Mapping[str, Any], reasons: Mapping[str, str]) -> bool:
    return _finite(row.get(name)) is None and name not in reasons and name not in MAY_BE_NULL


def _finite(value: Any) -> Any:
    """Return the value, or ``None`` for NaN and infinities, which JSON does not have."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _all_finite(content: Any) -> Any:
    """Return containers with ``None`` for every NaN and infinity."""
    if isinstance(content, Mapping):
        return {name: _all_finite(value) for name, value in content.items()}
    return [_all_finite(value) for value in content] if isinstance(content, (list, tuple)) else _finite(content)


def read_row(path: Path) -> dict[str, Any]:
    """Return one row of this or an older schema version.

    A row of status ``ok`` that breaks an invariant is returned as ``incorrect`` (see ``bench.rows.invariants``).

    Raises:
        ValueError: the file is no JSON, contains a name twice, or has a newer schema version.
    """
    row: dict[str, Any] = read_json(path, "row")
    version = row.pop("schema_version", None) if isinstance(row, dict) else None
    if type(version) is not int:
        raise ValueError(f"{path} is not a row: it has no schema_version")
    if not 1 <= version <= SCHEMA_VERSION:
        raise ValueError(f"{path} has schema version {version}. This version reads up to {SCHEMA_VERSION}")
    absent = [name for name in ("key", "replicate", "status") if name not in row]
    if absent:
        raise ValueError(f"{path} is not a whole row: it has no {absent[0]}")
    check_shape(row, _EVERY_ROW, path)
    for older in range(version, SCHEMA_VERSION):
        row = MIGRATIONS[older](row)
    return checked(row if "experiment" in row else {**row, "experiment": _named_experiment(row)})


_EVERY_ROW = {"key": NAME, "replicate": int, "status": str, "null_reasons?": (dict, None)}


def _named_experiment(row: Mapping[str, Any]) -> str | None:
    """Return the experiment in the command of a row that is older than the column ``experiment``."""
    named = re.search(r"(?:^|\s)experiment=(\w+)(?:\s|$)", str(row.get("repro_command")))
    return named[1] if named and named[1] != "null" else None


def is_pending(run_dir: Path, name: str) -> bool:
    """Return whether a job has no row yet, or one with a status of ``RETRYABLE``."""
    key, _, replicate = name.rpartition("-")
    path = row_path(run_dir, key, int(replicate))
    try:
        return not path.exists() or read_row(path)["status"] in RETRYABLE
    except ValueError as error:
        raise ValueError(f"{error}. Delete this file to run its job again") from error
