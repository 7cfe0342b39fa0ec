"""Making pairs: the same points A B B A … in fresh processes, one run of ``bench/run.py`` per round and side."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.cli import EXIT_OK, EXIT_POINTS_FAILED
from bench.command import EXIT_BAD_INPUT, EXIT_INTERRUPTED
from bench.compare.comparison import Comparison, compare
from bench.compare.load import INTERLEAVED, load_side
from bench.compare.noise import read_floor
from bench.compare.rules import Rules
from bench.jobs import hydra_quoted
from bench.record import write_json
from bench.table import load_rows, write_table

SIDES = ("base", "candidate")


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One side: a checkout, and what its command line has beside the shared overrides.

    Attributes:
        name: ``base`` or ``candidate``.
        root: the checkout.
        extra: overrides of this side alone.
    """

    name: str
    root: Path
    extra: tuple[str, ...] = ()


def order(rounds: int, arms: Sequence[Arm]) -> list[tuple[int, Arm]]:
    """A B, B A, A B, …: what drifts steadily hits both sides alike.

    >>> a, b = Arm(name="base", root=Path()), Arm(name="candidate", root=Path())
    >>> "".join(arm.name[0] for _, arm in order(3, (a, b)))
    'bccbbc'
    """
    return [(number, arm) for number in range(rounds) for arm in (arms if number % 2 == 0 else arms[::-1])]


def run_rounds(arms: Sequence[Arm], requests: Sequence[Sequence[str]], rounds: int, out: Path) -> None:
    """Run every round of both sides, then store each side as one run folder, ``out/base`` and ``out/candidate``.

    Args:
        arms: both sides.
        requests: overrides of one sweep or of several, which every round runs one after the other.
        rounds: pairs to make.
        out: must not exist, or be empty.

    Raises:
        ValueError: bad input, in the words of the run; or ``out`` holds something.
        RuntimeError: a run ended as no run should.
    """
    if out.exists() and any(out.iterdir()):
        raise ValueError(f"{out} is not empty; choose another folder or delete it")
    made: dict[str, list[list[Path]]] = {arm.name: [[] for _ in range(rounds)] for arm in arms}
    for number, arm in order(rounds, arms):
        started = time.perf_counter()
        for place, overrides in enumerate(requests):
            folder = out / "rounds" / f"{number:03}-{arm.name}-{place}"
            run_sweep(arm, overrides, folder)
            made[arm.name][number].append(folder)
        took = time.perf_counter() - started
        print(f"round {number + 1} of {rounds}: {arm.name} ({took:.1f} s)", file=sys.stderr, flush=True)
    pairs = uuid.uuid4().hex
    for name, folders in made.items():
        merge(folders, out / name, {"pairs": pairs, "side": name, "rounds": rounds, "order": "A B B A"})


def compared_rounds(
    arms: Sequence[Arm], requests: Sequence[Sequence[str]], rounds: int, out: Path, rules: Rules
) -> Comparison:
    """``run_rounds``, and what comparing the two sides finds, under the measured noise floor of this machine."""
    run_rounds(arms, requests, rounds, out)
    base, candidate = (load_side(out / arm.name) for arm in arms)
    return compare(base, candidate, rules, read_floor(candidate.facts.get("fingerprint")))


def run_sweep(arm: Arm, overrides: Sequence[str], folder: Path) -> None:
    """One sweep of a checkout into a folder.

    Raises:
        ValueError: bad input, in the words of the run.
        RuntimeError: it ended as no run should.
    """
    command = [sys.executable, str(arm.root / "bench" / "run.py"), "-m", *overrides, *arm.extra, "replicates=1",
               f"run_dir={hydra_quoted(str(folder.absolute()))}"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    said = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
    if done.returncode == EXIT_BAD_INPUT:
        raise ValueError(f"{arm.name}: {said.removeprefix('error: ')}")
    if done.returncode == EXIT_INTERRUPTED:
        raise KeyboardInterrupt
    if done.returncode not in (EXIT_OK, EXIT_POINTS_FAILED):
        raise RuntimeError(f"{arm.name}: bench/run.py ended with {done.returncode}: {said}")


def merge(rounds: Sequence[Sequence[Path]], into: Path, mark: Mapping[str, Any]) -> None:
    """Store the runs of one side as one run folder whose replicates are the rounds.

    Args:
        rounds: of each round: its run folders, which ask different points.
        into: the folder to make.
        mark: what ``interleaved.json`` shall hold.

    Raises:
        ValueError: rounds that asked different points.
    """
    plans = [[_read(folder / "plan.json") for folder in folders] for folders in rounds]
    asked = [_keys(plan) for plan in plans]
    if any(keys != asked[0] for keys in asked):
        raise ValueError(f"{into}: its rounds asked different points")
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
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def requests_of(run_dir: Path, keys: Iterable[str]) -> list[list[str]]:
    """Overrides that ask each of these points of a run again, alone."""
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
