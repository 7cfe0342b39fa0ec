"""Judge times and bytes, which differ between runs, by intervals over pairs of runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bench.compare.verdicts.arrays import SideRows, codes
from bench.compare.verdicts.designs import Apart, Design, Interleaved
from bench.compare.verdicts.estimates import adjusted, estimate
from bench.compare.verdicts.rules import IMPROVED, INCONCLUSIVE, INSUFFICIENT, REGRESSED, SAME, Rules
from bench.rows.columns import Column, matched_for

Floats = NDArray[np.float64]

TESTED = ("effect", "low", "high", "p_worse", "p_better", "spread", "detectable", "interval")


def judge_noisy(
    base: SideRows, candidate: SideRows, rules: Rules, noise: Mapping[str, float], *, paired: bool
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the verdicts of every point, and of the geometric mean over the points, one row per metric.

    Args:
        base: rows of the base.
        candidate: rows of the candidate, over the same keys.
        rules: rules of the comparison.
        noise: measured A/A floor by metric, as a fraction.
        paired: whether the runs were interleaved, so that equal replicates are pairs.
    """
    kinds = {column.kind for column in rules.columns if column.kind != "exact"}
    unlike = {kind: _unlike(base, candidate, matched_for(kind)) for kind in kinds}
    points, means = [], []
    for column in rules.columns:
        if column.kind == "exact" or column.name not in base.measured:
            continue
        floor = max(rules.least_floor, noise.get(column.name, 0.0))
        frame = _measured(base, candidate, column, floor)
        samples = _samples(base, candidate, column, paired=paired)
        blocked = unlike[column.kind][frame.index] if len(frame) else unlike[column.kind][:0]
        testable = (blocked == "").to_numpy() & ~frame["lost"].to_numpy()
        _estimate(frame, [values[frame.index[testable]] for values in samples], testable, rules, paired=paired)
        _decide(frame, blocked, rules)
        points.append(frame)
        complete = np.logical_and.reduce([np.isfinite(values[frame.index]).all(axis=1) for values in samples])
        whole = frame.index[testable & complete]
        means.append(_mean(frame, [values[whole] for values in samples], rules, paired=paired))
    averaged = _stacked(means)
    if len(averaged):
        # One family over the metrics, so that several means do not raise the rate of false alarms.
        _decide(averaged, pd.Series("", averaged.index), rules)
    return _stacked(points), averaged


def _stacked(frames: list[pd.DataFrame]) -> pd.DataFrame:
    return pd.concat([frame for frame in frames if len(frame)] or [pd.DataFrame(columns=["key"])], ignore_index=True)


def _unlike(base: SideRows, candidate: SideRows, names: tuple[str, ...]) -> pd.Series:
    """Return, by place of the key, what differs between the sides or within one. Empty if nothing differs."""
    why = pd.Series("", index=range(len(base.keys)))
    for name in names:
        base_codes, candidate_codes = codes(base, candidate, name)
        before, agree = base.settled(base_codes)
        after, agree_too = candidate.settled(candidate_codes)
        why[(before != after) | ~agree | ~agree_too] += f"{name} "
    return why


def _measured(base: SideRows, candidate: SideRows, column: Column, floor: float) -> pd.DataFrame:
    """Return the points of which the base has the metric, by place of the key."""
    medians = pd.DataFrame({"base": base.medians(column.name), "candidate": candidate.medians(column.name)})
    out = pd.DataFrame(
        {
            "key": base.keys,
            "metric": column.name,
            "kind": column.kind,
            "unit": column.unit,
            "better": column.better,
            **medians,
            "floor": floor,
            "lost": medians["base"].notna() & medians["candidate"].isna(),
        }
    )
    return out[medians["base"].notna()]


def _samples(base: SideRows, candidate: SideRows, column: Column, *, paired: bool) -> list[Floats]:
    """Return logs, where above 0 is worse, by the order of the pair or by side."""
    sign = 1.0 if column.better == "lower" else -1.0
    if not paired:
        return [sign * rows.logs(column.name, pd.Index(rows.table["replicate"].unique())) for rows in (candidate, base)]
    replicates = pd.Index(base.table["replicate"].unique()).intersection(candidate.table["replicate"].unique())
    # Rounds were taken A B, B A, A B, …: the base came first in the even ones.
    orders = [replicates[replicates % 2 == parity] for parity in (0, 1)]
    return [sign * (candidate.logs(column.name, order) - base.logs(column.name, order)) for order in orders]


def _estimate(
    frame: pd.DataFrame, samples: list[Floats], testable: NDArray[np.bool_], rules: Rules, *, paired: bool
) -> None:
    """Fill ``pairs`` and the estimates, for points with equally many runs together."""
    counts = np.stack([np.isfinite(values).sum(axis=1) for values in samples], axis=1)
    frame["pairs"] = 0
    for name in TESTED:
        frame[name] = pd.Series("none", frame.index, dtype=object) if name == "interval" else np.nan
    places = frame.index[testable]
    for group in np.unique(counts, axis=0):
        chosen = (counts == group).all(axis=1)
        compact = [values[chosen][np.isfinite(values[chosen])].reshape(chosen.sum(), -1) for values in samples]
        runs: Design = Interleaved(*compact) if paired else Apart(*compact)
        frame.loc[places[chosen], "pairs"] = runs.pairs
        if runs.pairs == 0:
            continue
        floor = float(np.log1p(frame["floor"].iloc[0]))
        found = estimate(runs, floor, rules)
        for name in TESTED:
            frame.loc[places[chosen], name] = found[name].to_numpy()


def _decide(frame: pd.DataFrame, blocked: pd.Series, rules: Rules) -> None:
    """Fill verdict and reason. Each starts as inconclusive, and evidence upgrades it."""
    enough = frame["pairs"] >= rules.min_pairs
    # One family of tests per direction. Each test is one-sided against the floor.
    q_worse, q_better = adjusted(frame["p_worse"].where(enough)), adjusted(frame["p_better"].where(enough))
    worse = frame["effect"] >= 0
    frame["p_value"] = frame["p_worse"].where(worse, frame["p_better"])
    frame["q_value"] = q_worse.where(worse, q_better)
    floor = np.log1p(frame["floor"])
    beyond = (frame["low"] > floor) | (frame["high"] < -floor)
    inside = (frame["low"] >= -floor) & (frame["high"] <= floor)
    found = beyond & (frame["q_value"] <= rules.false_discovery_rate)
    both_zero = (frame["base"] == 0) & (frame["candidate"] == 0) & frame["pairs"].eq(0)
    tests = int(enough.sum())
    cases: list[tuple[pd.Series, str, str]] = [
        (blocked != "", INCONCLUSIVE, "{blocked}differs: the work or the timing is not the same"),
        (frame["lost"], INCONCLUSIVE, "the candidate did not measure it"),
        (both_zero, SAME, "0 on both sides"),
        (frame["pairs"].eq(0), INCONCLUSIVE, "no pair of values above zero, which a ratio needs"),
        (~enough, INSUFFICIENT, f"{{pairs}} of {rules.min_pairs} needed pairs"),
        (found & worse, REGRESSED, "the whole interval is beyond the floor"),
        (found & ~worse, IMPROVED, "the whole interval is beyond the floor"),
        (beyond, INCONCLUSIVE, f"beyond the floor, but not after Benjamini–Hochberg over {tests} tests"),
        (inside, SAME, "the whole interval is within the floor"),
    ]
    frame["verdict"] = np.select([case for case, _, _ in cases], [verdict for _, verdict, _ in cases], INCONCLUSIVE)
    texts = np.select([case for case, _, _ in cases], [text for _, _, text in cases], "the interval crosses the floor")
    frame["reason"] = [
        text.format(blocked=what, pairs=pairs)
        for text, what, pairs in zip(texts.astype(object), blocked, frame["pairs"], strict=True)
    ]


def _mean(frame: pd.DataFrame, samples: list[Floats], rules: Rules, *, paired: bool) -> pd.DataFrame:
    """Return the geometric mean over points with every pair: one ratio per pair of rounds, estimated like a point."""
    number = len(samples[0])
    if number < 2:
        return pd.DataFrame()
    out = frame.head(1).reset_index(drop=True).assign(key=f"geometric mean of {number} points", lost=False)
    out[["base", "candidate"]] = np.nan
    means = [cast("Floats", values.mean(axis=0, keepdims=True)) for values in samples]
    _estimate(out, means, np.array([True]), rules, paired=paired)
    return out
