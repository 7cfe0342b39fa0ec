"""Join two sides by key: which points are compared, missing or failed, and why."""

from __future__ import annotations

import pandas as pd

from bench.compare.side import ABSENT, FAILED_STATE, NOT_RUN, OK, Side, states
from bench.compare.verdicts.rules import Rules
from bench.rows.columns import COLUMNS

COMPARED, MISSING, FAILED, NEW = "compared", "missing", "failed", "new"

NAMING = tuple(column.name for column in COLUMNS if column.names_point)
"""Columns whose value alone is part of a label."""

AXES = tuple(
    column.name for column in COLUMNS if column.kind == "identity" and column.name not in (*NAMING, "key", "replicate")
)
"""Columns that are part of a label as ``name=value``, if they vary."""


def join(base: Side, candidate: Side, rules: Rules) -> pd.DataFrame:
    """Join every key of either side.

    Returns:
        By key: ``point`` (a label), ``base_state``, ``candidate_state``, ``why`` and ``outcome``.
        Outcomes are compared, missing (on one side, or in part), failed (on either side), not_run
        (on both) and new (only on the candidate's side, with ``rules.allow_new``).
    """
    sides = {"base": states(base), "candidate": states(candidate)}
    keys = sides["base"].index.union(sides["candidate"].index, sort=False)
    out = pd.DataFrame(index=keys)
    for name, found in sides.items():
        out[f"{name}_state"] = found["state"].reindex(keys).fillna(ABSENT)
        out[f"{name}_why"] = found["why"].reindex(keys).fillna("not there")
    before, after = out["base_state"], out["candidate_state"]
    out["outcome"] = MISSING
    out.loc[before.eq(ABSENT) & after.isin([OK, NOT_RUN]) & rules.allow_new, "outcome"] = NEW
    out.loc[before.eq(NOT_RUN) & after.eq(NOT_RUN), "outcome"] = NOT_RUN
    out.loc[before.eq(OK) & after.eq(OK), "outcome"] = COMPARED
    out.loc[before.eq(FAILED_STATE) | after.eq(FAILED_STATE), "outcome"] = FAILED
    out["why"] = _whys(out)
    out.insert(0, "point", labels(base.table, candidate.table).reindex(keys).fillna("planned, without a row"))
    return out[["point", "base_state", "candidate_state", "outcome", "why"]]


def _whys(out: pd.DataFrame) -> list[str]:
    return [
        ", ".join(f"{side}: {why}" for side, why in (("base", base), ("candidate", candidate)) if why)
        for base, candidate in zip(out["base_why"], out["candidate_why"], strict=True)
    ]


def labels(*tables: pd.DataFrame) -> pd.Series:
    """Return a short label by key: the implementation or policy, and the axes that vary over the tables."""
    first = pd.concat([table[["key", *NAMING, *AXES]] for table in tables if len(table)] or list(tables))
    first = first.drop_duplicates("key").set_index("key")
    varying = [name for name in AXES if first[name].nunique(dropna=True) > 1]
    naming = [name for name in NAMING if name != "scenario" or first[name].nunique() > 1]
    parts = [first[name].astype(object) for name in naming]
    # As objects: pandas 2.2 maps Int64 with a null as floats, `page_size=16.0`.
    parts += [
        first[name].astype(object).map(lambda value, name=name: f"{name}={value}", na_action="ignore")
        for name in varying
    ]
    words = zip(*parts, strict=True) if parts else ([] for _ in first.index)
    named = pd.Series([" ".join(str(word) for word in row if pd.notna(word)) for row in words], index=first.index)
    # Points with equal labels are distinguished by their key.
    alike = named.duplicated(keep=False)
    return named.where(~alike, named + " " + first.index.str[:6])


def comparable_keys(points: pd.DataFrame, base: Side, candidate: Side) -> pd.Index:
    """Return keys with an answer on both sides, even if other rows of them failed or are missing."""
    answered = [set(side.table.loc[side.table["status"].eq("ok"), "key"]) for side in (base, candidate)]
    return points.index[points.index.isin(answered[0] & answered[1])]
