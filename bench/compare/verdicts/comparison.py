"""Compute verdicts from two tables. This module reads no file, clock or environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from bench.cli.exits import EXIT_INCOMPLETE, EXIT_INCONCLUSIVE, EXIT_NOT_COMPARABLE, EXIT_OK, EXIT_REGRESSED
from bench.compare.side import NOT_RUN, Side
from bench.compare.verdicts.arrays import SideRows, rows_of
from bench.compare.verdicts.exact import judge_exact
from bench.compare.verdicts.join import COMPARED, FAILED, MISSING, NEW, comparable_keys, join
from bench.compare.verdicts.machines import Mismatch, described, mismatch
from bench.compare.verdicts.noisy import judge_noisy
from bench.compare.verdicts.rules import INCONCLUSIVE, INSUFFICIENT, REGRESSED, VERDICTS, Rules

VERDICT_COLUMNS: Mapping[str, str] = {
    "key": "object",
    "point": "object",
    "metric": "object",
    "kind": "object",
    "unit": "object",
    "better": "object",
    "base": "object",
    "candidate": "object",
    "pairs": "Int64",
    "ratio": "Float64",
    "ratio_low": "Float64",
    "ratio_high": "Float64",
    "interval": "object",
    "floor": "Float64",
    "spread": "Float64",
    "detectable": "Float64",
    "p_value": "Float64",
    "q_value": "Float64",
    "verdict": "object",
    "reason": "object",
    "lost": "bool",
}
"""Columns of ``Comparison.verdicts`` and ``means``. Fractions (``floor, spread, detectable``) are relative,
0.02 is 2 %. ``ratio`` is candidate / base for either direction."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The result of comparing two runs.

    Attributes:
        rules: rules of the comparison.
        sides: description of base and candidate.
        paired: whether the runs were interleaved, so that replicates are pairs.
        points: by key, every point of either side and its outcome (``bench.compare.verdicts.join``).
        verdicts: one row per compared point and metric, worst first.
        means: the geometric mean over the points, one row per metric.
        machines: blocking facts that differ.
        notes: sentences that a reader must not miss.
    """

    rules: Rules
    sides: Mapping[str, Mapping[str, object]]
    paired: bool
    points: pd.DataFrame
    verdicts: pd.DataFrame
    means: pd.DataFrame
    machines: Mismatch
    notes: tuple[str, ...] = field(default=())

    @property
    def counts(self) -> dict[str, int]:
        """Number of verdicts and points of each kind."""
        verdicts, outcomes = self.verdicts["verdict"].value_counts(), self.points["outcome"].value_counts()
        counts = {name: int(verdicts.get(name, 0)) for name in VERDICTS}
        counts |= {name: int(outcomes.get(name, 0)) for name in (COMPARED, MISSING, FAILED, NOT_RUN, NEW)}
        return {**counts, "lost": int(self.verdicts["lost"].sum())}

    @property
    def is_empty(self) -> bool:
        """Whether nothing was decided: no point matched, or no metric had enough pairs."""
        return not (self.verdicts["verdict"] != INSUFFICIENT).any()

    @property
    def exit_code(self) -> int:
        """The first that applies: 5 not comparable, 4 incomplete, 3 regressed, 6 inconclusive (on request), 0."""
        counts = self.counts
        if self.machines.refused:
            return EXIT_NOT_COMPARABLE
        if counts[MISSING] or counts[FAILED] or counts["lost"] or self.is_empty:
            return EXIT_INCOMPLETE
        if counts[REGRESSED] or self.means["verdict"].eq(REGRESSED).any():
            return EXIT_REGRESSED
        if self.rules.fail_on_inconclusive and (counts[INCONCLUSIVE] or counts[INSUFFICIENT]):
            return EXIT_INCONCLUSIVE
        return EXIT_OK


def compare(base: Side, candidate: Side, rules: Rules, noise: Mapping[str, float] | None = None) -> Comparison:
    """Compare two runs.

    Args:
        base: the present side.
        candidate: the side that may replace it.
        rules: rules of the comparison.
        noise: measured A/A floor by metric, as a fraction.

    Raises:
        ValueError: the rules name an unknown fact.
    """
    points = join(base, candidate, rules)
    keys = comparable_keys(points, base, candidate)
    machines = mismatch(base, candidate, keys, rules) if rules.needs_like_machines else Mismatch(allowed=(), refused=())
    paired = base.interleaved is not None and base.interleaved == candidate.interleaved
    rows = rows_of(base, keys), rows_of(candidate, keys)
    judged, means = [judge_exact(*rows, rules)], pd.DataFrame()
    if not machines.refused:
        noisy, means = judge_noisy(*rows, rules, noise or {}, paired=paired)
        judged.append(noisy)
    verdicts = pd.concat([frame for frame in judged if len(frame)] or judged[:1], ignore_index=True)
    return Comparison(
        rules=rules,
        sides={"base": described(base), "candidate": described(candidate)},
        paired=paired,
        points=points,
        verdicts=worst_first(_presented(verdicts, points["point"])),
        means=_presented(means, None),
        machines=machines,
        notes=tuple(_notes(rows, verdicts, paired=paired)),
    )


def _presented(found: pd.DataFrame, labels: pd.Series | None) -> pd.DataFrame:
    """Return the public columns. Logs, where above 0 is worse, become plain ratios."""
    out = found.reindex(columns=[*VERDICT_COLUMNS, "effect", "low", "high"])
    sign = np.where(out["better"].eq("higher"), -1.0, 1.0)
    ends = np.exp(np.stack([sign * out["low"].to_numpy(float), sign * out["high"].to_numpy(float)]))
    out["ratio"] = np.exp(sign * out["effect"].to_numpy(float))
    out["ratio_low"], out["ratio_high"] = ends.min(axis=0), ends.max(axis=0)
    out["detectable"] = np.expm1(out["detectable"].to_numpy(float))
    out["spread"] = np.expm1(out["spread"].to_numpy(float))
    out["point"] = out["key"] if labels is None else out["key"].map(labels)
    out["lost"] = out["lost"].eq(True)
    out["ratio"] = out["ratio"].where(out["kind"].ne("exact"), _plain_ratio(out))
    return out[list(VERDICT_COLUMNS)].astype(dict(VERDICT_COLUMNS))


def _plain_ratio(out: pd.DataFrame) -> pd.Series:
    """Return candidate / base of counters."""
    base, candidate = (pd.to_numeric(out[name], errors="coerce").astype(float) for name in ("base", "candidate"))
    return (candidate / base).where(base != 0)


def worst_first(verdicts: pd.DataFrame) -> pd.DataFrame:
    """Sort by verdict, then counters before noisy metrics, then the larger change first."""
    rank = verdicts["verdict"].map({name: place for place, name in enumerate(VERDICTS)})
    size = np.log(verdicts["ratio"].to_numpy(dtype=float, na_value=np.nan, copy=True))
    order = pd.DataFrame({"rank": rank, "exact": verdicts["kind"].ne("exact"), "size": -np.abs(size)})
    return verdicts.loc[order.sort_values(["rank", "exact", "size"], kind="stable").index].reset_index(drop=True)


def _notes(rows: tuple[SideRows, SideRows], verdicts: pd.DataFrame, *, paired: bool) -> list[str]:
    notes = []
    base, candidate = (side.table for side in rows)
    if set(base["server_id"].dropna()) & set(candidate["server_id"].dropna()):
        notes.append("both sides contain rows of the same processes: a run compared with itself shows nothing")
    timed = verdicts["kind"].ne("exact").any() if len(verdicts) else False
    if timed and not paired:
        notes.append(
            "the runs were not interleaved: drift between them counts as a difference. scripts/ab.py makes pairs"
        )
    for name, table in (("base", base), ("candidate", candidate)):
        doubtful = int(table["fitness"].eq("doubtful").sum())
        if timed and doubtful:
            notes.append(f"{doubtful} of {len(table)} rows of the {name} have doubtful times (column fitness_reasons)")
        if table["mixed"].eq(True).any():
            notes.append(f"the {name} is a resumed run whose code or machine changed")
    return notes
