"""Make pairs: the same points of both sides with turns, one run of ``bench/run.py`` per round and side."""

from __future__ import annotations

import itertools
import sys
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.ab.sweeps import Arm, one_at_a_time, run_sweeps
from bench.compare.load import INTERLEAVED, load_side
from bench.compare.verdicts.comparison import Comparison
from bench.compare.verdicts.noise import compared
from bench.compare.verdicts.rules import Rules
from bench.rows.json_file import write_json
from bench.rows.json_input import check_shape, read_json
from bench.rows.table import load_rows, write_table


def run_rounds(arms: Sequence[Arm], requests: Sequence[Sequence[str]], rounds: int, out: Path) -> None:
    """Run every round of both sides, then store each side as one run folder, ``out/base`` and ``out/candidate``.

    The sweeps of both sides run at once and take turns or, if they cannot, one after the other. The first side changes
    from round to round, so that steady drift affects both sides equally.

    Args:
        arms: both sides.
        requests: overrides of one or several sweeps, which every round runs one after another.
        rounds: number of pairs.
        out: target folder. It must be absent or empty.

    Raises:
        ValueError: bad input, with the message of the run, or ``out`` is not empty.
        RuntimeError: a run ended with an unexpected exit code.
    """
    if out.exists() and any(out.iterdir()):
        raise ValueError(f"{out} is not empty. Choose another folder, or delete it")
    (out / "rounds").mkdir(parents=True)
    reason = one_at_a_time(arms, requests)
    if reason:
        print(f"one sweep after the other, A B B A: {reason}", file=sys.stderr)
    made: dict[str, list[list[Path]]] = {arm.name: [[] for _ in range(rounds)] for arm in arms}
    for number in range(rounds):
        started = time.perf_counter()
        turned = list(arms) if number % 2 == 0 else list(arms)[::-1]
        for group in [[arm] for arm in turned] if reason else [turned]:
            for place, overrides in enumerate(requests):
                folders = {arm.name: out / "rounds" / f"{number:03}-{arm.name}-{place}" for arm in group}
                run_sweeps(group, overrides, folders)
                for name, folder in folders.items():
                    made[name][number].append(folder)
        took = time.perf_counter() - started
        print(f"round {number + 1} of {rounds} ({took:.1f} s)", file=sys.stderr, flush=True)
    pairs = uuid.uuid4().hex
    order = "A B B A" if reason else "in turn"
    for name, rounds_made in made.items():
        merge(rounds_made, out / name, {"pairs": pairs, "side": name, "rounds": rounds, "order": order})


def compared_rounds(
    arms: Sequence[Arm], requests: Sequence[Sequence[str]], rounds: int, out: Path, rules: Rules
) -> Comparison:
    """Call ``run_rounds``, and compare the two sides with the measured noise floor of this machine."""
    run_rounds(arms, requests, rounds, out)
    base, candidate = (load_side(out / arm.name) for arm in arms)
    return compared(base, candidate, rules)


def merge(rounds: Sequence[Sequence[Path]], into: Path, mark: Mapping[str, Any]) -> None:
    """Store the runs of one side as one run folder whose replicates are the rounds.

    Args:
        rounds: run folders of each round, with different points.
        into: folder to create.
        mark: contents of ``interleaved.json``.

    Raises:
        ValueError: the rounds have different points.
    """
    plans = [[_read(folder / "plan.json") for folder in folders] for folders in rounds]
    asked = [_keys(plan) for plan in plans]
    if any(keys != asked[0] for keys in asked):
        raise ValueError(f"{into}: its rounds have different points")
    (into / "points").mkdir(parents=True)
    points = list(itertools.chain.from_iterable(plan["points"] for plan in plans[0]))
    for number, folders in enumerate(rounds):
        for path in itertools.chain.from_iterable(sorted((folder / "points").glob("*.json")) for folder in folders):
            row = _read(path)
            log = row.get("log") and str(Path("..") / path.parent.parent.relative_to(into.parent) / row["log"])
            write_json(into / "points" / f"{row['key']}-{number}.json", {**row, "replicate": number, "log": log})
    write_json(into / "environment.json", _read(rounds[0][0] / "environment.json"))
    write_json(into / INTERLEAVED, dict(mark))
    write_json(into / "plan.json", {**plans[0][0], "points": points, "replicates": len(rounds)})
    write_table(load_rows(into), into)


def _keys(plans: Iterable[Mapping[str, Any]]) -> list[str]:
    return [point["key"] for plan in plans for point in plan["points"]]


def _read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = read_json(path)
    check_shape(content, {}, path)
    return content


def requests_of(run_dir: Path, keys: Iterable[str]) -> list[list[str]]:
    """Return overrides that run each of these points again, alone."""
    plan = _read(run_dir / "plan.json")
    points = {point["key"]: point for point in plan["points"]}
    folders = [f"--config-dir={folder}" for folder in plan["config_dirs"]]
    requests = []
    for key in keys:
        values, overrides = points[key]["values"], points[key]["overrides"]
        device = [f"device={values['device']}"] if values["scenario"]["tensors"] else []
        kept = [
            override for override in overrides if override.partition("=")[0] not in ("device", "replicates", "run_dir")
        ]
        requests.append([*folders, *kept, *device])
    return requests
