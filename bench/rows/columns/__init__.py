"""The metric registry: every column of a row, in order, with its kind, direction and meaning.

``docs/columns.md`` is generated from it, rows are checked against it, figures and comparisons
read kind and direction from it. Later versions add columns; none is ever renamed.
"""

from __future__ import annotations

from bench.rows.columns.column import Column
from bench.rows.columns.memory import MEMORY
from bench.rows.columns.pool import POOL
from bench.rows.columns.prefill_swap import PREFILL_SWAP
from bench.rows.columns.question import QUESTION
from bench.rows.columns.replay import REPLAY
from bench.rows.columns.serving import SERVING
from bench.rows.columns.timing import TIMING

__all__ = ["BY_NAME", "COLUMNS", "MAY_BE_NULL", "NAMES", "Column"]

COLUMNS: tuple[Column, ...] = (
    *QUESTION,
    *POOL,
    *REPLAY,
    *SERVING,
    *PREFILL_SWAP,
    *TIMING,
    *MEMORY,
)

MAY_BE_NULL = ("status_reason", "null_reasons", "log", "experiment")
"""Columns that are null without a reason."""

NAMES: tuple[str, ...] = tuple(column.name for column in COLUMNS)
BY_NAME = {column.name: column for column in COLUMNS}
