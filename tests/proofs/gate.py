"""How often the comparison cries wolf, and how often it finds what is there: ``python scripts/prove_gate.py aa``.

aa         this machine, the same code on both sides, taking turns: 20 disjoint comparisons of 10 pairs, and of 5. Then
           the candidate's times multiplied: what can be found under this machine's own noise
power      this machine, in the same way: 5 % and 10 % more work planted into paged_torch's decode step
synthetic  noise of known shape around a known truth: false discoveries and coverage of the intervals
speed      two runs of 10,000 points x 5 replicates, from their folders to the verdicts

aa and power use one point: that of paged_torch in the default sweep, with 8 sequences and measure=gate, without its
memory process. Each side of a round runs under its own fork server. Overrides after -- choose another point. With the
same --pool, an interrupted proof continues.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from bench.cli.command import run_command, split_overrides
from bench.cli.exits import EXIT_OK
from bench.compare import Rules
from bench.plan.points import Plan, read_plan
from bench.rows.table import load_rows
from tests.proofs.pool import comparisons, flagged_ratio, rates, run_pool, side_plan
from tests.proofs.synthetic import NOISES, promises, write_large_run

ROOT = Path(__file__).resolve().parents[2]
PLANTED = Path(__file__).parent / "planted_cache"
SWEEP = ("impl=paged_torch", "page_size=16", "device=cpu", "measure=gate", "num_seqs=8")
METRICS = ("decode_us", "append_us", "prepare_us", "policy_ns_per_op")
SIDES = ("base", "candidate")
FACTORS = (1.05, 1.1, 1.25, 1.5, 2.0)
LINE = "{:<14}{:>7}{:>10}{:>10}{:>10}{:>10}{:>12}"


def main() -> int:
    """Return 0 when the table is printed. The reader judges it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("proof", choices=["aa", "power", "synthetic", "speed"])
    parser.add_argument("--comparisons", type=int, default=20, metavar="N", help="of 10 pairs (aa, power; default 20)")
    parser.add_argument("--pool", type=Path, help="where the rounds lie; default: a new folder under results/runs/")
    own, overrides = split_overrides(sys.argv[1:])
    arguments = parser.parse_args(own, argparse.Namespace(overrides=overrides))
    proofs = {"aa": prove_aa, "power": prove_power, "synthetic": prove_synthetic, "speed": prove_speed}
    return run_command(lambda: proofs[arguments.proof](arguments))


def prove_aa(arguments: argparse.Namespace) -> int:
    """No round is in two comparisons of the same size."""
    pool, plan = _pool(arguments)
    run_pool(dict.fromkeys(SIDES, side_plan(plan, None, PLANTED)), pool, 10 * arguments.comparisons)
    base, candidate = (load_rows(pool / side) for side in SIDES)
    _print_spreads(base, candidate)
    for pairs in (10, 5):
        _print_rates("A/A", base, candidate, pairs)
        for factor in FACTORS:
            slower = candidate.assign(**{metric: candidate[metric] * factor for metric in METRICS})
            _print_rates(f"the candidate's times x {factor}", base, slower, pairs)
    return EXIT_OK


def prove_power(arguments: argparse.Namespace) -> int:
    """Compare paged_torch with itself with 10 % and with 5 % more work, decode steps only."""
    pool, plan = _pool(arguments)
    base = side_plan(plan, None, PLANTED)
    for more, target in (("+10 %", "planted.TenPercentMore"), ("+5 %", "planted.FivePercentMore")):
        folder = pool / target
        run_pool({"base": base, "candidate": side_plan(plan, target, PLANTED)}, folder, 10 * arguments.comparisons)
        for pairs in (10, 5):
            _print_rates(more, *(load_rows(folder / side) for side in SIDES), pairs, ("decode_us", "decode_us_min"))
    return EXIT_OK


def _pool(arguments: argparse.Namespace) -> tuple[Path, Plan]:
    """Return the folder of the rounds, and the plan from one short run, which also warms caches."""
    pool = arguments.pool or ROOT / "results" / "runs" / time.strftime(f"prove-{arguments.proof}-%Y%m%d-%H%M%S")
    first = pool / "first"
    if not (first / "plan.json").exists():
        overrides = [*(arguments.overrides or SWEEP), f"run_dir='{first.absolute()}'"]
        command = [sys.executable, str(ROOT / "bench" / "run.py"), "-m", *overrides]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            said = done.stderr.strip().splitlines()[-1]
            raise ValueError(f"the sweep cannot be run: {said.removeprefix('error: ')}")
    print(f"rounds in {pool}")
    return pool, read_plan(first)


def _print_spreads(base: pd.DataFrame, candidate: pd.DataFrame) -> None:
    """Standard deviations of log ratios: of a round's two sides, and of rounds of one side that followed each other."""
    print(f"\n{'standard deviation of a ratio':<32}{'in turn':>10}{'one after the other':>22}")
    for metric in METRICS:
        ours, theirs = (np.log(_by_round(table, metric)) for table in (base, candidate))
        apart = ours.groupby("key").diff()
        print(f"{metric:<32}{100 * (theirs - ours).std():>8.1f} %{100 * apart.std():>20.1f} %")


def _by_round(table: pd.DataFrame, metric: str) -> pd.Series[float]:
    return table.set_index(["key", "replicate"])[metric].astype(float).sort_index()


def _print_rates(
    name: str, base: pd.DataFrame, candidate: pd.DataFrame, pairs: int, metrics: tuple[str, ...] = METRICS
) -> None:
    made = list(comparisons(base, candidate, pairs, Rules(kinds=("timing",), metrics=metrics)))
    shares = rates(made, metrics)
    points = base["key"].nunique()
    print(f"\n{name}: {len(made)} disjoint comparisons of {pairs} pairs, {points} points")
    print(LINE.format("", "cases", "regressed", "improved", "undecided", "same", "run spread"))
    for metric, row in shares.iterrows():
        counts = [f"{row[column]:.0f}" for column in ("verdicts", "regressed", "improved", "inconclusive", "same")]
        print(LINE.format(str(metric)[:13], *counts, f"{100 * row['spread']:.1f} %"))
    means = sum(int(comparison.means["verdict"].isin(["regressed", "improved"]).sum()) for comparison in made)
    print(f"flagged: {100 * flagged_ratio(shares):.1f} % of the points; geometric means flagged: {means}")


def prove_synthetic(arguments: argparse.Namespace) -> int:
    """100 points at once, 20 of them 10 % slower, 3 % spread between runs."""
    line = "{:<16}{:>6}{:>18}{:>10}{:>12}{:>14}"
    print(line.format("noise", "pairs", "false discoveries", "coverage", "found", "false alarms"))
    for name, noise in NOISES.items():
        for pairs in (5, 10):
            kept = promises(noise, pairs=pairs, points=100, comparisons=arguments.comparisons)
            shares = (kept.false_discovery_ratio, kept.coverage, kept.found, kept.false_alarms)
            print(line.format(name, pairs, *(f"{100 * share:.1f} %" for share in shares)), flush=True)
    return EXIT_OK


def prove_speed(arguments: argparse.Namespace) -> int:
    """Two whole run folders, their tables beside their rows, through the command itself."""
    with tempfile.TemporaryDirectory(prefix="bench-speed-") as folder:
        runs = [write_large_run(Path(folder) / name, points=10_000, replicates=5, seed=seed)
                for seed, name in enumerate(("base", "candidate"))]  # fmt: skip
        for attempt in range(3):
            started = time.perf_counter()
            command = [sys.executable, str(ROOT / "scripts" / "compare_runs.py"), *map(str, runs)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            took = time.perf_counter() - started
            said = done.stdout.strip().splitlines()[-2:]
            print(f"attempt {attempt + 1}: {took:.1f} s, exit {done.returncode}; {' | '.join(said)}")
    return EXIT_OK
