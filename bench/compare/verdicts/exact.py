"""Judge counters that are equal on every machine: integers by equality, fractions by ``Column.rel_tolerance``."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bench.compare.verdicts.arrays import NULL, SideRows, codes
from bench.compare.verdicts.rules import IMPROVED, INCONCLUSIVE, REGRESSED, SAME, Rules
from bench.rows.columns import Column


def judge_exact(base: SideRows, candidate: SideRows, rules: Rules) -> pd.DataFrame:
    """Return one row per point and counter of the base. A counter that only the candidate has is not judged.

    A changed counter with a better direction is regressed or improved. A changed counter without a
    direction is regressed too, because the change may be harmful. It is inconclusive if a counter
    with a direction changed at the same point and explains it (fewer pages held, more bytes free).
    """
    columns = [column for column in rules.columns if column.kind == "exact" and column.name in base.measured]
    frames = [_judge(base, candidate, column) for column in columns]
    found = pd.concat([frame for frame in frames if len(frame)] or [pd.DataFrame(columns=["key"])], ignore_index=True)
    if found.empty:
        return found
    directed = found["better"].notna() & found["verdict"].isin([REGRESSED, IMPROVED])
    follows = found["better"].isna() & found["verdict"].eq(REGRESSED) & found["key"].isin(found.loc[directed, "key"])
    found.loc[follows, "verdict"] = INCONCLUSIVE
    found.loc[follows, "reason"] = "changed together with a counter that has a better direction"
    return found


def _judge(base: SideRows, candidate: SideRows, column: Column) -> pd.DataFrame:
    base_codes, candidate_codes = codes(base, candidate, column.name, column.rel_tolerance)
    before, base_settled = base.settled(base_codes)
    after, candidate_settled = candidate.settled(candidate_codes)
    there = before != NULL
    lost = there & (after == NULL)
    old, new = (rows.table[column.name].to_numpy(dtype=object)[rows.first] for rows in (base, candidate))
    out = pd.DataFrame(
        {
            "key": base.keys,
            "metric": column.name,
            "kind": column.kind,
            "unit": column.unit,
            "better": column.better,
            "base": old,
            "candidate": new,
            "verdict": SAME,
            "reason": "equal",
            "lost": lost,
        }
    )
    _set(out, before != after, REGRESSED, "changed, and the registry has no better direction for it")
    if column.rel_tolerance:
        rounded = (before == after) & (_numbers(old) != _numbers(new))
        _set(out, rounded, SAME, f"equal to a relative {column.rel_tolerance:g}")
    if column.better is not None:
        worse = _worse(old, new, column.better)
        _set(out, (before != after) & worse, REGRESSED, f"a counter, and {column.better} is better")
        _set(out, (before != after) & ~worse, IMPROVED, f"a counter, and {column.better} is better")
    _set(out, lost, INCONCLUSIVE, "the candidate did not measure it")
    _set(out, ~candidate_settled, REGRESSED, "differs between replicates of the candidate: it is not deterministic")
    _set(out, ~base_settled, INCONCLUSIVE, "differs between replicates of the base: it is not deterministic")
    chosen: pd.DataFrame = out.loc[there]
    return chosen


def _worse(old: NDArray[np.object_], new: NDArray[np.object_], better: str) -> NDArray[np.bool_]:
    before, after = _numbers(old), _numbers(new)
    return np.asarray(after > before if better == "lower" else after < before)


def _numbers(values: NDArray[np.object_]) -> NDArray[np.float64]:
    """Return the values as floats, with NaN for values that are no numbers."""
    return pd.to_numeric(pd.Series(values), errors="coerce").to_numpy(float)


def _set(out: pd.DataFrame, where: NDArray[np.bool_], verdict: str, reason: str) -> None:
    out.loc[where, "verdict"] = verdict
    out.loc[where, "reason"] = reason
