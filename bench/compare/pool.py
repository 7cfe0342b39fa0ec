"""Real rounds of several arms, interleaved, and comparisons cut out of them.

One fresh fork server per round and arm, as everywhere; but the command line, the plan and the
figures are paid once for all rounds, which is what makes hundreds of rounds affordable.
"""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from bench.compare.comparison import Comparison, compare
from bench.compare.rules import Rules
from bench.compare.side import Side
from bench.plan import Plan
from bench.record import is_pending, write_json
from bench.round import Round
from bench.run_folder import PARTS
from bench.session import Session
from bench.table import load_rows


def arm_plan(plan: Plan, target: str | None, config_dir: Path) -> Plan:
    """The plan of an arm: the points that can run, timed but not weighed, answered by ``target`` if given."""
    points = []
    for point in plan.points:
        if point.skip_status is None:
            timing = {**point.values["scenario"], "processes": point.values["scenario"]["processes"][:1]}
            impl = {**point.values["impl"], **({"target": target} if target else {})}
            points.append(dataclasses.replace(point, values={**point.values, "scenario": timing, "impl": impl}))
    return dataclasses.replace(plan, points=tuple(points), config_dirs=(str(config_dir),))


def run_pool(plans: Mapping[str, Plan], pool: Path, rounds: int) -> None:
    """Run every arm ``rounds`` times, in an order that turns around each time; goes on where it was cut off.

    Args:
        plans: by arm.
        pool: one run folder per arm lies here.
        rounds: of each arm.
    """
    for arm, plan in plans.items():
        for part in PARTS:
            (pool / arm / part).mkdir(parents=True, exist_ok=True)
        write_json(pool / arm / "plan.json", dataclasses.replace(plan, replicates=rounds).to_json())
    started = time.perf_counter()
    for number in range(rounds):
        for arm in list(plans) if number % 2 == 0 else list(plans)[::-1]:
            _run_round(plans[arm], pool / arm, number)
        if number % 10 == 9:
            took = time.perf_counter() - started
            print(f"{number + 1} of {rounds} rounds, {took:.0f} s", file=sys.stderr, flush=True)


def _run_round(plan: Plan, run_dir: Path, number: int) -> None:
    pending = [point for point in plan.points if is_pending(run_dir, f"{point.key}-{number}")]
    if pending:
        with Round(Session(run_dir=run_dir, plan=plan, interleaved=True)) as this_round:
            for point in pending:
                this_round.run(point, number)


def comparisons(base: pd.DataFrame, candidate: pd.DataFrame, pairs: int, rules: Rules) -> Iterator[Comparison]:
    """Compare disjoint stretches of ``pairs`` rounds of two arms, each as if there were nothing else."""
    rounds = int(min(base["replicate"].max(), candidate["replicate"].max())) + 1
    for start in range(0, rounds - pairs + 1, pairs):
        stretch = range(start, start + pairs)
        yield compare(_stretch(base, stretch), _stretch(candidate, stretch), rules)


def _stretch(table: pd.DataFrame, replicates: range) -> Side:
    rows = table[table["replicate"].isin(list(replicates))]
    return Side(name="pool", table=rows, planned=dict.fromkeys(rows["key"], len(replicates)), interleaved="pool")


def halves(table: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rounds of one arm as the two sides of an A/A, taken A B B A."""
    number = table["replicate"].astype(int)
    first = (number % 4).isin([0, 3])
    pair = table.assign(replicate=(number // 2).astype("Int64"))
    return pair[first], pair[~first]


def rates(made: Sequence[Comparison], metrics: Sequence[str]) -> pd.DataFrame:
    """By metric: how many verdicts there were and which, and the spread between runs."""
    verdicts = pd.concat([comparison.verdicts for comparison in made])
    verdicts = verdicts[verdicts["metric"].isin(metrics)]
    shares = pd.crosstab(verdicts["metric"], verdicts["verdict"]).reindex(list(metrics)).dropna()
    for name in ("regressed", "improved", "same", "inconclusive"):
        if name not in shares:
            shares[name] = 0
    shares.insert(0, "verdicts", shares.sum(axis=1))
    spreads = verdicts.groupby("metric")["spread"].median()
    return shares.assign(spread=spreads.reindex(shares.index)).astype({"spread": float})


def load_arm(pool: Path, arm: str) -> pd.DataFrame:
    """The rows of an arm."""
    return load_rows(pool / arm)


def flagged_ratio(shares: pd.DataFrame) -> float:
    """Of all verdicts, those that say that something changed."""
    flagged = shares["regressed"].sum() + shares["improved"].sum()
    return float(flagged / shares["verdicts"].sum()) if len(shares) else float(np.nan)
