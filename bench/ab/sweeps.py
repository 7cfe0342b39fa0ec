"""Run the same sweep of two checkouts in fresh processes: both at once with turns, or one alone."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.ab.turn_keeper import TurnKeeper, handed_out
from bench.cli.exits import EXIT_BAD_INPUT, EXIT_INTERRUPTED, EXIT_OK, EXIT_POINTS_FAILED
from bench.measure.turns import VARIABLE, variable
from bench.plan.quoting import hydra_quoted
from bench.runner.machine.gpu_lock import visible_gpus
from bench.runner.process.server import KILL_GRACE_S

POLL_S = 0.02
TURN_CLIENTS = (Path("bench", "measure", "turns.py"), Path("bench", "turns.py"))
"""Where a checkout has its client of the turn server, now and in older revisions."""


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One side: a checkout, and its overrides in addition to the shared ones.

    Attributes:
        name: ``base`` or ``candidate``.
        root: the checkout.
        extra: overrides of this side only.
    """

    name: str
    root: Path
    extra: tuple[str, ...] = ()


def one_at_a_time(arms: Sequence[Arm], requests: Iterable[Sequence[str]]) -> str | None:
    """Return why the sides cannot take turns and must run one after the other, or ``None`` if they can.

    Args:
        arms: both sides.
        requests: overrides of the sweeps.
    """
    asked = [list(overrides) for overrides in requests]
    if any(override.lstrip("+~").startswith("hydra/launcher") for override in itertools.chain.from_iterable(asked)):
        return "another launcher runs the jobs"
    if visible_gpus() and not all("device=cpu" in overrides for overrides in asked):
        return "both sides would need the GPU's memory at once, unless device=cpu"
    missing = [arm.name for arm in arms if not any((arm.root / client).exists() for client in TURN_CLIENTS)]
    return f"the code of {' and '.join(missing)} cannot take turns yet" if missing else None


def run_sweeps(arms: Sequence[Arm], overrides: Sequence[str], folders: Mapping[str, Path]) -> None:
    """Run the same sweep of each of these checkouts, with turns if there are several. The first has the first turn.

    Raises:
        ValueError: bad input, with the message of the run.
        RuntimeError: a sweep ended with an unexpected exit code.
    """
    names = [arm.name for arm in arms]
    keeper = TurnKeeper(names, lambda key: _place_in_plan(folders.values(), key))
    with contextlib.ExitStack() as stack:
        address = stack.enter_context(handed_out(keeper)) if len(arms) > 1 else None
        running = {}
        for arm in arms:
            running[arm.name] = _start(arm, overrides, folders[arm.name], address)
            stack.callback(_await_end, running[arm.name])
        for name, process in running.items():
            stack.callback(process.terminate)
            stack.callback(keeper.end, name)  # the other side no longer waits for this one
        while running:
            time.sleep(POLL_S)
            for name in [name for name, process in running.items() if process.poll() is not None]:
                keeper.end(name)
                _check(name, running.pop(name), folders[name])


def _start(arm: Arm, overrides: Sequence[str], folder: Path, address: str | None) -> subprocess.Popen[bytes]:
    command = [sys.executable, str(arm.root / "bench" / "run.py"), "-m", *overrides, *arm.extra, "replicates=1",
               f"run_dir={hydra_quoted(str(folder.absolute()))}"]  # fmt: skip
    inherited = {name: value for name, value in os.environ.items() if name != VARIABLE}
    env = inherited | (variable(arm.name, address) if address else {})
    with _log_path(folder).open("wb") as log:
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=log, env=env)


def _await_end(process: subprocess.Popen[bytes]) -> None:
    """Wait for a sweep that is ending, and kill it if it takes too long."""
    try:
        process.wait(KILL_GRACE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _check(name: str, process: subprocess.Popen[bytes], folder: Path) -> None:
    code = process.returncode
    lines = _log_path(folder).read_text(encoding="utf-8", errors="replace").strip().splitlines()
    last = lines[-1] if lines else "no output"
    if code == EXIT_BAD_INPUT:
        raise ValueError(f"{name}: {last.removeprefix('error: ')}")
    if code == EXIT_INTERRUPTED:
        raise KeyboardInterrupt
    if code not in (EXIT_OK, EXIT_POINTS_FAILED):
        raise RuntimeError(f"{name}: bench/run.py ended with {code}: {last}")


def _log_path(folder: Path) -> Path:
    """Return the path of the log of a sweep, beside its folder."""
    return folder.with_name(f"{folder.name}.log")


def _place_in_plan(folders: Iterable[Path], key: str) -> int:
    """Return the position at which the first side runs a key, or -1 for a key of one side only."""
    plans = [json.loads((folder / "plan.json").read_text(encoding="utf-8"))["points"] for folder in folders]
    if not all(any(point["key"] == key for point in plan) for plan in plans):
        return -1
    light_first = sorted(plans[0], key=lambda point: bool(point["values"]["scenario"]["tensors"]))
    return [point["key"] for point in light_first].index(key)
