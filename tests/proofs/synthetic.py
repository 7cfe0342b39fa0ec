"""Noise of known shape around a known truth: does the rule keep its promises?

Every generator makes logs of run medians ``[points, 2, pairs]``: base and candidate, interleaved in
time as A B B A, without any difference between them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bench.compare.output.words import records
from bench.compare.side import Side
from bench.compare.verdicts.comparison import compare
from bench.compare.verdicts.rules import IMPROVED, REGRESSED, Rules
from bench.rows.record import SCHEMA_VERSION
from bench.rows.table import empty_table, load_rows, write_table

Floats = NDArray[np.float64]
Noise = Callable[[np.random.Generator, int, int, float], Floats]


def normal(rng: np.random.Generator, points: int, pairs: int, spread: float) -> Floats:
    """Independent runs."""
    return rng.normal(0, spread, (points, 2, pairs))


def lognormal(rng: np.random.Generator, points: int, pairs: int, spread: float) -> Floats:
    """Now and then a run is much slower: the log of a time is skewed, as times on busy machines are."""
    return rng.lognormal(0, 0.8, (points, 2, pairs)) * spread


def bimodal(rng: np.random.Generator, points: int, pairs: int, spread: float) -> Floats:
    """Every run falls into one of two modes, two spreads apart (an address, a clock)."""
    return rng.normal(0, spread / 2, (points, 2, pairs)) + 2 * spread * rng.integers(0, 2, (points, 2, pairs))


def drifting(rng: np.random.Generator, points: int, pairs: int, spread: float) -> Floats:
    """The machine slows down steadily, over all runs by ten spreads."""
    return rng.normal(0, spread, (points, 2, pairs)) + interleaved(np.linspace(0, 10 * spread, 2 * pairs))


def autocorrelated(rng: np.random.Generator, points: int, pairs: int, spread: float) -> Floats:
    """Each run keeps 0.7 of the disturbance of the one before it."""
    steps = rng.normal(0, spread, (points, 2 * pairs))
    for run in range(1, 2 * pairs):
        steps[:, run] = 0.7 * steps[:, run - 1] + np.sqrt(1 - 0.7**2) * steps[:, run]
    return interleaved(steps)


def interleaved(runs: Floats) -> Floats:
    """Runs in order of time ``[…, 2 * pairs]`` as ``[…, 2, pairs]``: taken A B B A."""
    by_pair = runs.reshape(*runs.shape[:-1], -1, 2).copy()
    by_pair[..., 1::2, :] = by_pair[..., 1::2, ::-1]
    return np.swapaxes(by_pair, -1, -2)


NOISES: Mapping[str, Noise] = {
    "normal": normal,
    "log-normal": lognormal,
    "bimodal": bimodal,
    "drifting": drifting,
    "autocorrelated": autocorrelated,
}


@dataclass(frozen=True, kw_only=True)
class Kept:
    """Over many comparisons of many points, some of which have truly changed.

    Attributes:
        false_discovery_ratio: false flags / flags, mean over the comparisons (0 where nothing was flagged).
        coverage: of the printed intervals, those that hold the truth.
        found: of the points that have truly changed, those flagged.
        false_alarms: of the points that have not, those flagged.
    """

    false_discovery_ratio: float
    coverage: float
    found: float
    false_alarms: float


def promises(
    noise: Noise,
    *,
    pairs: int,
    points: int,
    comparisons: int,
    spread: float = 0.03,
    change: float = 0.10,
    seed: int = 0,
) -> Kept:
    """Compare repeatedly, with a fifth of the points taking ``change`` longer."""
    rng, rules = np.random.default_rng(seed), Rules()
    truth = np.where(np.arange(points) < points // 5, np.log1p(change), 0.0)
    ratios, inside, flags = [], [], []
    for _ in range(comparisons):
        logs = noise(rng, points, pairs, spread)
        base, candidate = np.exp(logs[:, 0]), np.exp(logs[:, 1] + truth[:, None])
        verdicts = compare(made_side(100 * base), made_side(100 * candidate), rules).verdicts.set_index("key")
        verdicts = verdicts.loc[[f"p{point}" for point in range(points)]]
        flagged = verdicts["verdict"].isin([REGRESSED, IMPROVED]).to_numpy()
        right = verdicts["verdict"].eq(REGRESSED).to_numpy() & (truth > 0)
        ratios.append((flagged & ~right).sum() / max(flagged.sum(), 1))
        low, high = (np.log(verdicts[name].to_numpy(float)) for name in ("ratio_low", "ratio_high"))
        inside.append((low <= truth) & (truth <= high))
        flags.append(flagged)
    changed = truth > 0
    return Kept(
        false_discovery_ratio=float(np.mean(ratios)),
        coverage=float(np.mean(inside)),
        found=float(np.mean([flagged[changed].mean() for flagged in flags])) if changed.any() else float("nan"),
        false_alarms=float(np.mean([flagged[~changed].mean() for flagged in flags])),
    )


def made_side(values: Floats, metric: str = "decode_us") -> Side:
    """A side with synthetic runs.

    Args:
        values: ``[points, runs]`` of a metric.
        metric: which.
    """
    points, runs = values.shape
    keys = [f"p{point}" for point in range(points)]
    table = empty_table(values.size)
    table["key"] = np.repeat(keys, runs)
    table["replicate"] = pd.array(np.tile(np.arange(runs), points), dtype="Int64")
    table["server_id"] = [f"{id(values)}-{run}" for run in range(values.size)]
    table["status"], table["scenario"], table["timer"] = "ok", "decode", "perf_counter"
    table[metric] = pd.array(values.ravel(), dtype="Float64")
    return Side(name="made", table=table, planned={key: int(runs) for key in keys}, interleaved="made")


def write_large_run(folder: Path, *, points: int, replicates: int, seed: int) -> Path:
    """A run folder of many points with every kind of column, its rows and its table."""
    rng = np.random.default_rng(seed)
    side = made_side(100 * np.exp(rng.normal(0, 0.01, (points, replicates))))
    table = side.table
    for metric in ("append_us", "prepare_us", "policy_ns_per_op", "process_memory_rise_bytes"):
        values = 100 * np.exp(rng.normal(0, 0.01, len(table)))
        table[metric] = pd.array(np.round(values * 1000) if metric.endswith("bytes") else values).astype(
            table[metric].dtype
        )
    for metric in ("admitted_seqs", "peak_pages", "pool_bytes", "free_bytes", "preemptions"):
        table[metric] = pd.array(np.repeat(np.arange(points) % 97, replicates)).astype("Int64")
    table["batch_digest"], table["server_id"] = "b", [f"{seed}-{row % replicates}" for row in range(len(table))]
    (folder / "points").mkdir(parents=True)
    plan = [{"key": key} for key in side.planned]
    (folder / "plan.json").write_text(json.dumps({"points": plan, "replicates": replicates}))
    (folder / "environment.json").write_text(json.dumps({"schema_version": SCHEMA_VERSION, "fingerprint": "f"}))
    for row in records(table):
        path = folder / "points" / f"{row['key']}-{row['replicate']}.json"
        path.write_text(json.dumps({"schema_version": SCHEMA_VERSION, **row}))
    write_table(load_rows(folder), folder)
    return folder
