"""Compare two runs: ``python scripts/compare_runs.py BASE CANDIDATE``, each a run folder or JSON of pytest-benchmark.

Exit codes:
    0  nothing regressed (or no baseline)
    1  internal error
    2  bad input
    3  a point regressed
    4  points are missing or failed, or none matched
    5  the machines differ
    6  inconclusive, with --fail-on-inconclusive
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:] = [str(ROOT), *(path for path in sys.path if Path(path).resolve() != ROOT / "scripts")]


def main() -> int:
    """Return the exit code, as listed above."""
    from bench.cli.command import run_command
    from bench.compare.command import add_options

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", type=Path, help="run folder, or JSON of pytest-benchmark")
    parser.add_argument("candidate", type=Path, help="the same, compared with the base")
    add_options(parser)
    parser.add_argument("--require-baseline", action="store_true", help="exit 4, not 0, if there is no BASE")
    arguments = parser.parse_args()
    return run_command(lambda: _compare(arguments))


def _compare(arguments: argparse.Namespace) -> int:
    from bench.cli.exits import EXIT_INCOMPLETE, EXIT_OK
    from bench.compare.command import check_out, present, rules_of
    from bench.compare.load import load_side
    from bench.compare.verdicts.noise import compared

    rules = rules_of(arguments)
    check_out(arguments.out)
    candidate = load_side(arguments.candidate)
    if not arguments.base.exists():
        print(f"there is no baseline {arguments.base}: nothing was compared")
        return EXIT_INCOMPLETE if arguments.require_baseline else EXIT_OK
    base = load_side(arguments.base)
    return present(compared(base, candidate, rules), arguments.out, everything=arguments.all)


if __name__ == "__main__":
    sys.exit(main())
