"""Rows of a run folder as plain dictionaries."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def rows_of(run_dir: Path) -> list[dict[str, Any]]:
    """Return every row of a run folder, in the order of file names."""
    return [json.loads(path.read_text()) for path in sorted((run_dir / "points").glob("*.json"))]


def row_of_only_point(run_dir: Path) -> dict[str, Any]:
    """Return the row of a run of one point and one replicate."""
    (row,) = rows_of(run_dir)
    return row
