"""Compare two revisions on this machine: ``python scripts/ab.py BASE_REV [CANDIDATE_REV] -- page_size=4,16 …``.

Both revisions are checked out beside the working tree and run the same points in fresh processes. Their runs are
compared in pairs. On a CPU both sweeps run at once and take turns, one block of samples each, so that a slow phase of
the machine slows both (use measure=gate, which gives them enough time). On a GPU, whose memory they cannot share,
rounds go A B B A. Use this gate in CI: times of a baseline from another machine cannot be compared.

Exit codes are those of scripts/compare_runs.py. CANDIDATE_REV is HEAD unless given.
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
    parser.add_argument("base", metavar="BASE_REV", help="branch, tag or commit")
    parser.add_argument(
        "candidate", metavar="CANDIDATE_REV", nargs="?", default="HEAD", help="compared with it (default: HEAD)"
    )
    parser.add_argument("--replicates", type=int, default=10, metavar="N", help="pairs of rounds (default 10, least 5)")
    parser.add_argument(
        "--confirm", type=int, default=0, metavar="N", help="run flagged points again, N pairs of rounds"
    )
    parser.add_argument("--runs", type=Path, help="folder for the runs (default: a new folder under results/runs/)")
    add_options(parser)
    own, overrides = split_overrides(sys.argv[1:])
    arguments = parser.parse_args(own)
    return run_command(lambda: _ab(arguments, overrides))


def _ab(arguments: argparse.Namespace, overrides: list[str]) -> int:
    from bench.ab.rounds import compared_rounds, requests_of
    from bench.ab.sweeps import Arm
    from bench.ab.worktrees import has_changes, worktree
    from bench.compare.command import check_out, check_rounds, present, rules_of
    from bench.compare.verdicts.confirm import confirmed, flagged

    rules = rules_of(arguments)
    check_out(arguments.out)
    check_rounds("--replicates", arguments.replicates, rules)
    if arguments.confirm:
        check_rounds("--confirm", arguments.confirm, rules)
    out = arguments.runs or ROOT / "results" / "runs" / time.strftime("ab-%Y%m%d-%H%M%S")
    if arguments.candidate == "HEAD" and has_changes(ROOT):
        print("note: the working tree has changes that are not in HEAD. They are not compared", file=sys.stderr)
    with worktree(ROOT, arguments.base) as base, worktree(ROOT, arguments.candidate) as candidate:
        arms = (Arm(name="base", root=base), Arm(name="candidate", root=candidate))
        comparison = compared_rounds(arms, [overrides], arguments.replicates, out, rules)
        if arguments.confirm and (keys := flagged(comparison)):
            requests = requests_of(out / "candidate", keys)
            second = compared_rounds(arms, requests, arguments.confirm, out / "confirm", rules)
            comparison = confirmed(comparison, second)
    print(f"runs     {out}")
    return present(comparison, arguments.out, everything=arguments.all)


if __name__ == "__main__":
    sys.exit(main())
