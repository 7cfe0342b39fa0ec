"""A second look at flagged points with fresh runs, because a false alarm seldom repeats."""

from __future__ import annotations

import dataclasses

import pandas as pd

from bench.compare.verdicts.comparison import Comparison, worst_first
from bench.compare.verdicts.rules import IMPROVED, REGRESSED


def flagged(comparison: Comparison) -> list[str]:
    """Return the keys to run again: a time or a size is regressed or improved. Counters need no second look.

    A flagged geometric mean adds every point that it covers.
    """
    verdicts = comparison.verdicts
    means = comparison.means.loc[_is_flagged(comparison.means), "metric"]
    rows = _is_flagged(verdicts) | (verdicts["kind"].ne("exact") & verdicts["metric"].isin(means))
    return list(verdicts.loc[rows, "key"].drop_duplicates())


def confirmed(first: Comparison, second: Comparison) -> Comparison:
    """Return the first comparison, with flagged verdicts replaced by those of the second.

    Other verdicts stay, even if their point was run again. A second look clears or confirms, and adds no new chances of
    a false alarm.
    """
    verdicts = _replaced(first.verdicts, second.verdicts, ["key", "metric"])
    verdicts["point"] = verdicts["key"].map(first.points["point"])
    points = first.points.copy()
    points.update(second.points[["outcome", "why"]][second.points["outcome"].isin(["missing", "failed"])])
    note = f"{len(second.points)} points were run again. Flagged verdicts use the times and sizes of this second look"
    return dataclasses.replace(
        first,
        verdicts=worst_first(verdicts),
        means=_replaced(first.means, second.means, ["metric"]),
        points=points,
        notes=(*first.notes, note),
    )


def _is_flagged(rows: pd.DataFrame) -> pd.Series:
    return rows["verdict"].isin([REGRESSED, IMPROVED]) & rows["kind"].ne("exact")


def _replaced(first: pd.DataFrame, second: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Return the rows of the first, with flagged rows taken from the second."""
    flagged_rows = _is_flagged(first)
    again = pd.MultiIndex.from_frame(second[by]).isin(pd.MultiIndex.from_frame(first.loc[flagged_rows, by]))
    return pd.concat([first[~flagged_rows], second[again]], ignore_index=True)
