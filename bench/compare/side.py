"""One side of a comparison, and what each of its points came to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from bench.rows.record import FAILED

OK, FAILED_STATE, NOT_RUN, INCOMPLETE, ABSENT = "ok", "failed", "not_run", "incomplete", "absent"

NOT_RUN_STATUSES = frozenset({"unsupported", "oom_predicted", "skipped_dominated"})
"""Known before the point ran: a gap only where the other side has an answer."""


@dataclass(frozen=True, kw_only=True)
class Side:
    """A table and what is known of it.

    Attributes:
        name: what people call it; a path, or a revision.
        table: its rows, as ``bench.rows.table.load_rows`` gives them.
        facts: of the machine and the code, as in ``environment.json``.
        planned: by key, how many rows were planned.
        interleaved: what its runs and those of the other side were interleaved under, if they were.
    """

    name: str
    table: pd.DataFrame
    facts: Mapping[str, Any] = field(default_factory=dict)
    planned: Mapping[str, int] = field(default_factory=dict)
    interleaved: str | None = None


def states(side: Side) -> pd.DataFrame:
    """By key: ``state`` and, where that is not ok, ``why``.

    A point is ``failed`` if one of its rows is, ``incomplete`` if planned rows are missing or only
    some could run, ``not_run`` if none was to run.
    """
    table = side.table
    kinds = pd.DataFrame(
        {
            "key": table["key"],
            "failed": table["status"].isin(FAILED),
            "not_run": table["status"].isin(NOT_RUN_STATUSES),
            "ok": table["status"].eq("ok"),
        }
    )
    counts = kinds.groupby("key", sort=False)[["failed", "not_run", "ok"]].sum()
    counts = counts.reindex(counts.index.union(pd.Index(list(side.planned), dtype=object), sort=False), fill_value=0)
    planned = pd.Series(dict(side.planned), dtype=float).reindex(counts.index)
    rows = counts.sum(axis=1)
    short = rows < planned.fillna(rows)
    out = pd.DataFrame({"state": OK, "why": ""}, index=counts.index)
    _mark(out, counts["not_run"].gt(0) & counts["ok"].gt(0), INCOMPLETE, "only some of its rows could run")
    _mark(out, counts["not_run"].gt(0) & counts["ok"].eq(0), NOT_RUN, "")
    missing = pd.Series(
        [f"{of - there:.0f} of {of:.0f} planned rows are missing" for of, there in zip(planned, rows, strict=True)],
        index=counts.index,
        dtype=object,
    )
    _mark(out, short, INCOMPLETE, missing)
    _mark(out, counts["failed"].gt(0), FAILED_STATE, "")
    reasons = _reasons(table)
    unexplained = out["why"].eq("") & out["state"].ne(OK)
    out.loc[unexplained, "why"] = reasons.reindex(out.index[unexplained]).fillna("").to_numpy()
    return out


def _mark(out: pd.DataFrame, where: pd.Series, state: str, why: str | pd.Series) -> None:
    out.loc[where, "state"] = state
    out.loc[where, "why"] = why if isinstance(why, str) else why[where]


def _reasons(table: pd.DataFrame) -> pd.Series:
    """By key, the first row's status that is not ok, and why; a failure before what was not to run."""
    troubled = table[table["status"].ne("ok")]
    ordered = troubled.assign(gentle=~troubled["status"].isin(FAILED)).sort_values("gentle", kind="stable")
    first = ordered.drop_duplicates("key").set_index("key")
    return first["status"].astype(str) + first["status_reason"].map(lambda why: f": {why}" if pd.notna(why) else "")
