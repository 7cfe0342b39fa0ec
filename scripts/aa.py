"""Measure the noise floor: this checkout against itself, ``python scripts/aa.py -- page_size=4,16 …``.

The points run in pairs, as in scripts/ab.py, with equal code on both sides. The floor of a metric is the difference
that equal code stays below in 95 % of its points. It is stored in results/noise/ under the fingerprint of the machine,
where later comparisons find it.

Exit codes:
    0  stored
    2  bad input
    4  points are missing or failed
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:] = [str(ROOT), *(path for path in sys.path if Path(path).resolve() != ROOT / "scripts")]


def main() -> int:
    """Return the exit code, as listed above."""
    from bench.cli.command import run_command, split_overrides
    from bench.compare.command import add_options

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replicates", type=int, default=10, metavar="N", help="pairs of rounds (default 10, least 5)")
    parser.add_argument("--runs", type=Path, help="folder for the runs (default: a new folder under results/runs/)")
    add_options(parser)
    own, overrides = split_overrides(sys.argv[1:])
    arguments = parser.parse_args(own)
    return run_command(lambda: _aa(arguments, overrides))


def _aa(arguments: argparse.Namespace, overrides: list[str]) -> int:
    from bench.ab.rounds import run_rounds
    from bench.ab.sweeps import Arm
    from bench.cli.exits import EXIT_OK, EXIT_REGRESSED
    from bench.compare import compare
    from bench.compare.command import check_out, check_rounds, present, rules_of
    from bench.compare.load import load_side
    from bench.compare.verdicts.noise import measured_floor, write_floor

    rules = rules_of(arguments)
    check_out(arguments.out)
    check_rounds("--replicates", arguments.replicates, rules)
    out = arguments.runs or ROOT / "results" / "runs" / time.strftime("aa-%Y%m%d-%H%M%S")
    arms = (Arm(name="base", root=ROOT), Arm(name="candidate", root=ROOT))
    run_rounds(arms, [overrides], arguments.replicates, out)
    base = load_side(out / "base")
    comparison = compare(base, load_side(out / "candidate"), rules)  # against the least floor alone
    code = present(comparison, arguments.out, everything=arguments.all)
    if code not in (EXIT_OK, EXIT_REGRESSED):
        return code
    floors = measured_floor([comparison])
    for metric, floor in floors.items():
        print(f"floor    {metric}: {100 * floor:.2f} %")
    about = {"overrides": overrides, "pairs": arguments.replicates, "points": comparison.counts["compared"]}
    print(f"written  {write_floor(floors, base, about)}")
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
