"""One visit to a GPU, used fully: ``python scripts/gpu_session.py --minutes 25 --out DIR``.

Steps run in order of worth, each in a process of its own that writes its rows as it goes; what the
time did not allow is listed as not run. Nothing is installed: wheels may be carried with ``--wheels``.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
KILL_GRACE_S = 60.0
SMALL = ("measure=quick", "measure.max_s=0", "num_seqs=2", "model.max_seq_len=1024")
TESTS = ("tests/impls", "tests/kernels/test_decode_results.py", "tests/kernels/test_paged_triton.py",
         "tests/kernels/test_prefill.py", "tests/kernels/test_harness.py", "tests/scenarios/test_prefill.py",
         "tests/scenarios/test_swap.py", "tests/measure/test_gpu.py")  # fmt: skip
SWEEPS = {
    "default": (),
    "layout": ("experiment=gpu_layout",),
    "page_size": ("experiment=gpu_page_size",),
    "implementations": ("experiment=gpu_implementations",),
    "batch_length": ("experiment=gpu_batch_length",),
    "fig18a": ("experiment=paper_fig18a",),
    "prefill": ("experiment=gpu_prefill",),
    "fig19a": ("experiment=paper_fig19a",),
    "fig19a_recompute": ("experiment=paper_fig19a_recompute",),
    "swap": ("experiment=gpu_swap",),
    "short_contexts": ("experiment=gpu_short_contexts",),
    "batch": ("experiment=gpu_batch",),
    "length": ("experiment=gpu_length",),
    "capacity": ("experiment=gpu_capacity",),
}
"""Overrides of each sweep, by the name of its run folder."""

SMALLEST = {
    "layout": ("page_size=16", "page_layout=shuffled"),
    "page_size": ("page_size=16",),
    "implementations": ("page_size=16", "impl=contiguous,paged_torch,paged_triton"),
    "batch_length": ("num_seqs=2", "workload.length=512"),
    "fig18a": ("num_seqs=2", "workload.length=64"),
    "prefill": (
        "workload.length=256",
        "scenario.cached_tokens=0",
        "page_size=16",
        "impl=contiguous,paged_torch,paged_triton",
    ),
    "fig19a": ("workload.length=64", "page_size=16"),
    "fig19a_recompute": ("workload.length=64", "page_size=16", "model.num_parameters=1000000"),
    "swap": ("workload.length=512", "page_size=16"),
    "short_contexts": ("num_seqs=2", "workload.length=64", "page_size=16"),
    "batch": ("num_seqs=2",),
    "length": ("workload.length=512",),
    "capacity": ("memory_budget=256MiB",),
}
"""What makes a sweep small enough to try the script out on a CPU."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """One command; not begun with less than ``least_s`` seconds left or without ``needs``, and cut after ``most_s``."""

    name: str
    command: tuple[str, ...]
    least_s: float
    most_s: float = math.inf
    needs: Path | None = None


@dataclass(kw_only=True)
class Outcome:
    """What became of a step: ``ok``, ``failed``, ``cut`` (its time was up; its rows are whole) or ``not run``."""

    name: str
    command: str
    status: str = "not run"
    exit_code: int | None = None
    wall_s: float = 0.0


def steps(out: Path, device: str, *, small: bool, dry_run: bool) -> list[Step]:
    """The visit, most worthwhile first.

    Args:
        out: holds a folder per sweep.
        device: ``cuda`` or ``cpu``.
        small: every step in a small form.
        dry_run: sweeps only plan, tests are only collected, nothing is calibrated.
    """
    python = sys.executable
    run = [python, "bench/run.py", "-m"]
    pytest = [python, "-m", "pytest", "-q", "-o", "addopts=--import-mode=importlib", "-p", "no:cacheprovider",
              "-m", "not slow and not perf and not cluster"]  # fmt: skip
    calibrate = [python, "scripts/calibrate.py", "--device", device, "--out", str(out / "calibration.json")]
    planned = [
        Step(name="tests", command=(*pytest, *(["--collect-only"] if dry_run else []), *TESTS), least_s=60, most_s=360)
    ]
    if not dry_run:
        brief = ["--runs", "2", "--max-s", "0", "--ceiling-bytes", str(2**24)] if small else []
        planned.append(Step(name="calibration", command=(*calibrate, *brief), least_s=60, most_s=240))
    for name, overrides in SWEEPS.items():
        reduced = (*SMALL, *SMALLEST.get(name, ())) if small else ()
        last = ("dry_run=true",) if dry_run else (f"run_dir='{out / name}'",)
        planned.append(Step(name=name, command=(*run, *overrides, *reduced, f"device={device}", *last), least_s=30))
        if not dry_run:
            report = (python, "scripts/report.py", str(out / name))
            planned.append(Step(name=f"{name} report", command=report, least_s=5, needs=out / name))
    return planned


def run_steps(planned: Sequence[Step], out: Path, deadline: float, env: dict[str, str]) -> list[Outcome]:
    """Run what fits before ``deadline`` (of ``time.monotonic``); ``session.json`` is written after each step."""
    outcomes = [Outcome(name=step.name, command=_anywhere(step.command, out)) for step in planned]
    for step, outcome in zip(planned, outcomes, strict=True):
        left_s = deadline - time.monotonic()
        if left_s >= step.least_s and (step.needs is None or step.needs.exists()):
            print(f"{step.name}: {outcome.command}", flush=True)
            log = out / "logs" / f"{step.name.replace(' ', '-')}.log"
            _run(step, outcome, log, min(left_s, step.most_s), env)
            print(f"{step.name}: {outcome.status} after {outcome.wall_s:.0f} s", flush=True)
        _save(outcomes, out)
    return outcomes


def _anywhere(command: Sequence[str], out: Path) -> str:
    """A command as it reads on any machine."""
    return " ".join(command).replace(sys.executable, "python").replace(str(out), "OUT")


def _run(step: Step, outcome: Outcome, log: Path, left_s: float, env: dict[str, str]) -> None:
    began = time.monotonic()
    with log.open("wb") as file:
        process = subprocess.Popen(step.command, cwd=ROOT, env=env, stdout=file, stderr=subprocess.STDOUT)
        try:
            outcome.exit_code = process.wait(left_s)
            outcome.status = "ok" if outcome.exit_code == 0 else "failed"
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)  # a sweep ends with whole rows
            outcome.status = "cut"
            try:
                outcome.exit_code = process.wait(KILL_GRACE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                outcome.exit_code = process.wait()
    outcome.wall_s = time.monotonic() - began


def _save(outcomes: Sequence[Outcome], out: Path) -> None:
    fresh = out / ".session.json.tmp"
    fresh.write_text(json.dumps([asdict(outcome) for outcome in outcomes], indent=1), encoding="utf-8")
    fresh.replace(out / "session.json")


def environment(wheels: Path | None, out: Path) -> dict[str, str]:
    """Of the steps: the repository and the unpacked wheels on the import path."""
    folders = [ROOT]
    if wheels is not None:
        for wheel in sorted(wheels.glob("*.whl")):
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(out / "packages")
        folders.append(out / "packages")
    inherited = os.environ.get("PYTHONPATH", "")
    return {**os.environ, "PYTHONPATH": os.pathsep.join([*map(str, folders), *([inherited] if inherited else [])])}


def main() -> int:
    """Exit 0 if all ran and was ok, 4 if a step failed or was cut or not run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=25.0, help="whole length of the visit")
    parser.add_argument("--out", type=Path, required=True, help="where rows, logs and session.json go")
    parser.add_argument("--wheels", type=Path, help="folder of wheels to unpack onto the import path")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--small", action="store_true", help="every step in a small form, to try the script out")
    parser.add_argument("--dry-run", action="store_true", help="plan every sweep and collect the tests, run nothing")
    arguments = parser.parse_args()
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell's `&` leaves it: no step could then be cut
        signal.signal(signal.SIGINT, signal.default_int_handler)
    deadline = time.monotonic() + 60 * arguments.minutes - KILL_GRACE_S
    out = arguments.out.absolute()
    (out / "logs").mkdir(parents=True, exist_ok=True)
    planned = steps(out, arguments.device, small=arguments.small, dry_run=arguments.dry_run)
    outcomes = run_steps(planned, out, deadline, environment(arguments.wheels, out))
    for outcome in outcomes:
        print(f"{outcome.status:8} {outcome.wall_s:7.0f} s  {outcome.name}")
    return 0 if all(outcome.status == "ok" for outcome in outcomes) else 4


if __name__ == "__main__":
    sys.exit(main())
