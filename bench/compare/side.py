"""One side of a comparison, and the state of each of its points."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from bench.rows.record import FAILED

OK, FAILED_STATE, NOT_RUN, INCOMPLETE, ABSENT = "ok", "failed", "not_run", "incomplete", "absent"

NOT_RUN_STATUSES = frozenset({"unsupported", "oom_predicted", "skipped_dominated"})
"""Statuses known before a point runs. Such a point is missing only if the other side has an answer."""


@dataclass(frozen=True, kw_only=True)
class Side:
    """A table and its context.

    Attributes:
        name: for people, a path or a revision.
        table: rows, as ``bench.rows.table.load_rows`` returns them.
        facts: facts about machine and code, as in ``environment.json``.
        planned: number of planned rows by key.
        interleaved: id that it shares with the other side if their rounds were interleaved, else ``None``.
    """

    name: str
    table: pd.DataFrame
    facts: Mapping[str, Any] = field(default_factory=dict)
    planned: Mapping[str, int] = field(default_factory=dict)
    interleaved: str | None = None


def states(side: Side) -> pd.DataFrame:
    """Return ``state`` by key and, where it is not ok, ``why``.

    A point is ``failed`` if one of its rows failed, ``incomplete`` if planned rows are missing or only
    some could run, and ``not_run`` if none could run.
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
    """Return by key the first status that is not ok, and its reason. Failures come before rows that could not run."""
    troubled = table[table["status"].ne("ok")]
    ordered = troubled.assign(gentle=~troubled["status"].isin(FAILED)).sort_values("gentle", kind="stable")
    first = ordered.drop_duplicates("key").set_index("key")
    return first["status"].astype(str) + first["status_reason"].map(lambda why: f": {why}" if pd.notna(why) else "")
