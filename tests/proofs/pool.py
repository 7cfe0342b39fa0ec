"""Real rounds of two sides that take turns, and comparisons cut out of them.

One fresh fork server per round and side, as in every run. But the command line, the plan and the
figures are paid once for all rounds, which is what makes hundreds of rounds affordable.
"""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd

from bench.ab.turn_keeper import TurnKeeper, handed_out
from bench.compare.side import Side
from bench.compare.verdicts.comparison import Comparison, compare
from bench.compare.verdicts.rules import Rules
from bench.measure.turns import variable
from bench.plan.points import Plan
from bench.rows.json_file import write_json
from bench.rows.record import is_pending
from bench.rows.run_folder import FOLDERS
from bench.runner.process.server import Server
from bench.runner.round import TENSOR_MODULES, Round, probe, server_environment
from bench.runner.session import Session

PRELOADED = (*TENSOR_MODULES, "bench.scenarios.tensors.decode")
"""What the rounds' points need: imported once per round, not once per point."""

AT_ONCE = 2
"""Rounds whose fork servers start together, and wait: importing torch takes long beside a short round."""


def side_plan(plan: Plan, target: str | None, config_dir: Path) -> Plan:
    """The plan of a side: the points that can run, timed but not weighed, answered by ``target`` if given."""
    points = []
    for point in plan.points:
        if point.skip_status is None:
            timing = {**point.values["scenario"], "processes": point.values["scenario"]["processes"][:1]}
            impl = {**point.values["impl"], **({"target": target} if target else {})}
            points.append(dataclasses.replace(point, values={**point.values, "scenario": timing, "impl": impl}))
    return dataclasses.replace(plan, points=tuple(points), config_dirs=(str(config_dir),))


def run_pool(plans: Mapping[str, Plan], pool: Path, rounds: int) -> None:
    """Run both sides ``rounds`` times with turns, alternating which is first. Continue an interrupted pool.

    Args:
        plans: plans of ``base`` and ``candidate``, with the same points.
        pool: folder of one run folder per side.
        rounds: of each side.
    """
    for side, plan in plans.items():
        for part in FOLDERS:
            (pool / side / part).mkdir(parents=True, exist_ok=True)
        write_json(pool / side / "plan.json", dataclasses.replace(plan, replicates=rounds).to_json())
    pending = [number for number in range(rounds) if _pending(plans, pool, number)]
    started, known = time.perf_counter(), _Known()
    for start in range(0, len(pending), AT_ONCE):
        batch = pending[start : start + AT_ONCE]
        _run_batch(plans, pool, batch, known)
        print(f"round {batch[-1] + 1} of {rounds}, {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)


@dataclasses.dataclass
class _Known:
    """Facts about the machine from the first round, for the other rounds."""

    fingerprints: dict[bool, str] = dataclasses.field(default_factory=dict)
    ceilings: dict[str, float | None] = dataclasses.field(default_factory=dict)


def _pending(plans: Mapping[str, Plan], pool: Path, number: int) -> set[str]:
    """Return keys of a round without an answer of one side. Both sides run them again."""
    return {
        point.key
        for side, plan in plans.items()
        for point in plan.points
        if is_pending(pool / side, f"{point.key}-{number}")
    }


def _run_batch(plans: Mapping[str, Plan], pool: Path, numbers: Sequence[int], known: _Known) -> None:
    """Run some rounds one after another, each side under its own server. The servers start together and wait."""
    keys = dict.fromkeys(point.key for plan in plans.values() for point in plan.points)
    order = {key: place for place, key in enumerate(keys)}
    with contextlib.ExitStack() as stack:
        rounds: list[tuple[int, TurnKeeper, dict[str, Round]]] = []
        for number in numbers:
            keeper = TurnKeeper(list(plans) if number % 2 == 0 else list(plans)[::-1], lambda key: order.get(key, -1))
            address = stack.enter_context(handed_out(keeper))
            sides = {}
            for side, plan in plans.items():
                turns = variable(side, address)
                server = Server(server_environment(plan.config_dirs) | turns, preload=PRELOADED)
                stack.callback(server.close)
                session = Session(run_dir=pool / side, plan=plan, interleaved=True)
                sides[side] = Round(session, env=turns, server=server)
                sides[side].fingerprints, sides[side].ceilings = known.fingerprints, known.ceilings
            rounds.append((number, keeper, sides))
        for _, _, sides in rounds:
            for this_round in sides.values():
                probe(this_round.servers[True])  # returns when it has imported everything: nothing may do so later
        for number, keeper, sides in rounds:
            _run_in_turn(sides, number, _pending(plans, pool, number), keeper)


def _run_in_turn(sides: Mapping[str, Round], number: int, keys: Collection[str], keeper: TurnKeeper) -> None:
    stopping = threading.Event()

    def run(side: str) -> None:
        try:
            for point in sides[side].plan.points:
                if point.key in keys and not stopping.is_set():
                    sides[side].run(point, number)
        finally:
            keeper.end(side)

    with ThreadPoolExecutor(len(sides)) as threads:
        try:
            for done in [threads.submit(run, side) for side in sides]:
                done.result()
        except BaseException:
            stopping.set()  # after the point that they are at
            raise


def comparisons(base: pd.DataFrame, candidate: pd.DataFrame, pairs: int, rules: Rules) -> Iterator[Comparison]:
    """Compare disjoint stretches of ``pairs`` rounds of two sides, each as if there were nothing else."""
    rounds = int(min(base["replicate"].max(), candidate["replicate"].max())) + 1
    for start in range(0, rounds - pairs + 1, pairs):
        stretch = range(start, start + pairs)
        yield compare(_stretch(base, stretch), _stretch(candidate, stretch), rules)


def _stretch(table: pd.DataFrame, replicates: range) -> Side:
    rows = table[table["replicate"].isin(list(replicates))]
    return Side(name="pool", table=rows, planned=dict.fromkeys(rows["key"], len(replicates)), interleaved="pool")


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


def flagged_ratio(shares: pd.DataFrame) -> float:
    """Return the verdicts that report a change."""
    flagged = shares["regressed"].sum() + shares["improved"].sum()
    return float(flagged / shares["verdicts"].sum()) if len(shares) else float(np.nan)
