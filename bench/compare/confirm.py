"""A second look at what was flagged, with fresh runs: chance seldom strikes twice."""

from __future__ import annotations

import dataclasses

import pandas as pd

from bench.compare.comparison import Comparison, worst_first
from bench.compare.rules import IMPROVED, REGRESSED


def flagged(comparison: Comparison) -> list[str]:
    """Keys with a time or a size that is regressed or improved; counters need no second look."""
    verdicts = comparison.verdicts
    rows = verdicts["verdict"].isin([REGRESSED, IMPROVED]) & verdicts["kind"].ne("exact")
    return list(verdicts.loc[rows, "key"].drop_duplicates())


def confirmed(first: Comparison, second: Comparison) -> Comparison:
    """The first comparison, where the second, of its flagged points alone, has the last word on times and sizes."""
    again = second.verdicts[second.verdicts["kind"].ne("exact")]
    replaced = first.verdicts["key"].isin(again["key"]) & first.verdicts["kind"].ne("exact")
    verdicts = pd.concat([first.verdicts[~replaced], again], ignore_index=True)
    verdicts["point"] = verdicts["key"].map(first.points["point"])
    points = first.points.copy()
    points.update(second.points[["outcome", "why"]][second.points["outcome"].isin(["missing", "failed"])])
    note = f"{len(second.points)} points were flagged and run again; their times and sizes are those of the second look"
    return dataclasses.replace(first, verdicts=worst_first(verdicts), points=points, notes=(*first.notes, note))
