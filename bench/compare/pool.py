"""Real rounds of several arms, interleaved, and comparisons cut out of them.

One fresh fork server per round and arm, as everywhere; but the command line, the plan and the
figures are paid once for all rounds, which is what makes hundreds of rounds affordable.
"""

from __future__ import annotations

import contextlib
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
from bench.isolation import Server
from bench.plan import Plan, Point
from bench.record import is_pending, write_json
from bench.round import TENSOR_MODULES, Round, probe, server_environment
from bench.run_folder import PARTS
from bench.session import Session
from bench.table import load_rows

PRELOADED = (*TENSOR_MODULES, "bench.scenarios.decode")
"""What the rounds' points need: imported once per round, not once per point."""

AT_ONCE = 4
"""Fork servers that start together: importing torch takes longer than a short round, and cores are idle meanwhile."""


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
    turns = [
        (number, arm) for number in range(rounds) for arm in (list(plans) if number % 2 == 0 else list(plans)[::-1])
    ]
    turns = [(number, arm) for number, arm in turns if _pending(plans[arm], pool / arm, number)]
    started, known = time.perf_counter(), _Known()
    for start in range(0, len(turns), AT_ONCE):
        batch = turns[start : start + AT_ONCE]
        _run_batch(plans, pool, batch, known)
        print(
            f"round {batch[-1][0] + 1} of {rounds}, {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True
        )


@dataclasses.dataclass
class _Known:
    """What the first round asked of the machine; the others need not ask again."""

    fingerprints: dict[bool, str] = dataclasses.field(default_factory=dict)
    ceilings: dict[str, float | None] = dataclasses.field(default_factory=dict)


def _pending(plan: Plan, run_dir: Path, number: int) -> list[Point]:
    return [point for point in plan.points if is_pending(run_dir, f"{point.key}-{number}")]


def _run_batch(plans: Mapping[str, Plan], pool: Path, turns: Sequence[tuple[int, str]], known: _Known) -> None:
    """Some rounds one after the other, each under a server of its own; the servers start together, and wait."""
    with contextlib.ExitStack() as stack:
        servers = [Server(server_environment(plans[arm].config_dirs), preload=PRELOADED) for _, arm in turns]
        for server in servers:
            stack.callback(server.close)
        for server in servers:
            probe(server)  # returns when it has imported everything: nothing may do so during a measurement
        for (number, arm), server in zip(turns, servers, strict=True):
            session = Session(run_dir=pool / arm, plan=plans[arm], interleaved=True)
            this_round = Round(session, server=server)
            this_round.fingerprints, this_round.ceilings = known.fingerprints, known.ceilings
            for point in _pending(plans[arm], pool / arm, number):
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
