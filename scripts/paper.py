"""Redraw the PagedAttention paper on this machine, without a GPU, and check its claims: ``make paper``.

Arguments after ``--`` are overrides of every step. They show whether a claim depends on an assumption of ours, as in
``python scripts/paper.py --only paper_fig12_175b -- cost.compute_ratio=1``.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:] = [str(ROOT), *(path for path in sys.path if Path(path).resolve() != ROOT / "scripts")]

PLACES = (ROOT / "traces", ROOT.parent / "shared" / "traces")
"""Default folders of traces."""


def main() -> int:
    """Return 0, 2 for bad input, 4 if a sweep failed, 130 if interrupted."""
    from bench.cli.command import run_command, split_overrides

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--traces", type=Path, help="folder of published traces (default: $BENCH_TRACES, traces/, or "
                        "shared/traces beside the checkout)")  # fmt: skip
    parser.add_argument("--out", type=Path, help="folder for the runs (default: a new results/runs/paper-<time>). "
                        "A folder with some of the runs is completed")  # fmt: skip
    parser.add_argument("--only", action="append", default=[], metavar="STEP", help="run this step (may be repeated)")
    parser.add_argument("--list", action="store_true", help="print the steps and stop")
    own, overrides = split_overrides(sys.argv[1:])
    arguments = parser.parse_args(own)
    return run_command(lambda: _redraw(arguments, tuple(overrides)))


def _redraw(arguments: argparse.Namespace, overrides: tuple[str, ...]) -> int:
    from bench.cli.exits import EXIT_BAD_INPUT, EXIT_INTERRUPTED, EXIT_OK, EXIT_POINTS_FAILED
    from bench.config import one_of
    from bench.reports.paper.runs import RUN_PREFIX, steps
    from bench.rows.run_folder import RUNS, display_path

    given = arguments.traces or (Path(os.environ["BENCH_TRACES"]) if os.environ.get("BENCH_TRACES") else None)
    if given is not None and not given.is_dir():
        raise ValueError(f"--traces={given} is not a folder")
    wanted, notes = steps(given or next((place for place in PLACES if place.is_dir()), None))
    for name in arguments.only:
        one_of(name, [step.name for step in wanted], "--only")
    for sentence in notes:
        print(sentence)
    wanted = [
        dataclasses.replace(step, overrides=step.overrides + overrides)
        for step in wanted
        if not arguments.only or step.name in arguments.only
    ]
    if arguments.list:
        for step in wanted:
            print(f"{step.name:32}python bench/run.py -m {' '.join(step.overrides)}")
        return 0
    folder = (arguments.out or RUNS / time.strftime(f"{RUN_PREFIX}%Y%m%d-%H%M%S")).absolute()
    if overrides and any((folder / step.name / "plan.json").exists() for step in wanted):
        raise ValueError(f"--out={folder} has sweeps that began without {' '.join(overrides)}. Name another folder")
    failed, started = 0, time.perf_counter()
    for place, step in enumerate(wanted, 1):
        code, took_s = run_step(step.overrides, folder / step.name)
        ended = "ok" if code == 0 else f"exit {code}, see {display_path(folder / step.name)}.log"
        print(f"[{place}/{len(wanted)}] {step.name}: {ended} ({took_s:.0f} s)", flush=True)
        if code == EXIT_INTERRUPTED:
            return code
        if code == EXIT_BAD_INPUT:  # repeat the message of the sweep, which wrote nothing
            last = (folder / f"{step.name}.log").read_text(encoding="utf-8").strip().splitlines()[-1]
            raise ValueError(f"{step.name}: {last.removeprefix('error: ')}")
        failed += code != 0
    print(f"{len(wanted)} sweeps in {time.perf_counter() - started:.0f} s. Figures: {display_path(folder / 'figures')}")
    script = [sys.executable, str(ROOT / "scripts" / "make_figures.py"), str(folder), "--paper"]
    with (folder / "figures.log").open("w") as log:
        subprocess.run(script, stdout=log, stderr=subprocess.STDOUT, check=True)
    subprocess.run([sys.executable, str(ROOT / "scripts" / "check_claims.py"), str(folder)], check=True)
    return EXIT_POINTS_FAILED if failed else EXIT_OK


def run_step(overrides: tuple[str, ...], folder: Path) -> tuple[int, float]:
    """Run or resume one sweep in its folder, with its output beside it. Return exit code and seconds."""
    from bench.cli.exits import EXIT_INTERRUPTED

    folder.parent.mkdir(parents=True, exist_ok=True)
    begun = (folder / "plan.json").exists()
    place = [f"resume={folder}"] if begun else [f"run_dir={folder}"]
    started = time.perf_counter()
    with folder.with_suffix(".log").open("a") as log:
        command = [
            sys.executable,
            str(ROOT / "bench" / "run.py"),
            "-m",
            *([] if begun else overrides),
            *place,
            "draw=false",
        ]  # figures are drawn once, at the end
        try:
            code = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, check=False).returncode
        except KeyboardInterrupt:
            code = EXIT_INTERRUPTED
    return code, time.perf_counter() - started


if __name__ == "__main__":
    sys.exit(main())
