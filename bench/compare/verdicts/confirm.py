"""A second look at what was flagged, with fresh runs: chance seldom strikes twice."""

from __future__ import annotations

import dataclasses

import pandas as pd

from bench.compare.verdicts.comparison import Comparison, worst_first
from bench.compare.verdicts.rules import IMPROVED, REGRESSED


def flagged(comparison: Comparison) -> list[str]:
    """Keys to run again: those with a time or a size that is regressed or improved; counters need no second look.

    A flagged geometric mean asks for every point that it was taken over.
    """
    verdicts = comparison.verdicts
    means = comparison.means.loc[_is_flagged(comparison.means), "metric"]
    rows = _is_flagged(verdicts) | (verdicts["kind"].ne("exact") & verdicts["metric"].isin(means))
    return list(verdicts.loc[rows, "key"].drop_duplicates())


def confirmed(first: Comparison, second: Comparison) -> Comparison:
    """The first comparison, where the second has the last word on what was flagged, and on nothing else.

    What was not flagged keeps its verdict even where it was run again beside something else: a second look clears or
    confirms, and brings no new chances of a false alarm.
    """
    verdicts = _replaced(first.verdicts, second.verdicts, ["key", "metric"])
    verdicts["point"] = verdicts["key"].map(first.points["point"])
    points = first.points.copy()
    points.update(second.points[["outcome", "why"]][second.points["outcome"].isin(["missing", "failed"])])
    note = f"{len(second.points)} points were run again; what was flagged has the times and sizes of this second look"
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
    """The rows of the first, those that it flagged taken from the second."""
    asked = _is_flagged(first)
    again = pd.MultiIndex.from_frame(second[by]).isin(pd.MultiIndex.from_frame(first.loc[asked, by]))
    return pd.concat([first[~asked], second[again]], ignore_index=True)
