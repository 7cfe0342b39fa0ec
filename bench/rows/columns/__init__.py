"""The registry of columns: every column of a row, in the order of the table.

The entry of a column is its full description. Printed tables, marks of the best rows, reports, ``docs/columns.md`` and
comparisons read it, and no other list of columns exists. A later version can add columns. It never renames one.
"""

from __future__ import annotations

from bench.rows.columns.column import Column, Kind, Topic
from bench.rows.columns.memory import MEMORY
from bench.rows.columns.pool import POOL
from bench.rows.columns.prefill_swap import PREFILL_SWAP
from bench.rows.columns.question import QUESTION
from bench.rows.columns.replay import REPLAY
from bench.rows.columns.serving import SERVING
from bench.rows.columns.timing import TIMING

__all__ = ["BY_NAME", "COLUMNS", "MAY_BE_NULL", "NAMES", "TOPICS", "Column", "Topic", "matched_for"]

TOPICS: tuple[Topic, ...] = (QUESTION, POOL, REPLAY, SERVING, PREFILL_SWAP, TIMING, MEMORY)

COLUMNS: tuple[Column, ...] = tuple(column for topic in TOPICS for column in topic.columns)

MAY_BE_NULL = tuple(column.name for column in COLUMNS if column.may_be_null)
"""Columns that are null without a reason."""

NAMES: tuple[str, ...] = tuple(column.name for column in COLUMNS)
BY_NAME = {column.name: column for column in COLUMNS}


def matched_for(kind: Kind) -> tuple[str, ...]:
    """Return the columns that must be equal in two rows before columns of this kind are compared."""
    return tuple(column.name for column in COLUMNS if kind in column.must_match)
