"""Check claims of papers against our rows: ``python scripts/check_claims.py`` reads the newest ``make paper``.

``python scripts/check_claims.py results/reference/nvidia-h200 --gpu yes`` judges the claims that need a GPU by
committed rows.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:] = [str(ROOT), *(path for path in sys.path if Path(path).resolve() != ROOT / "scripts")]


def main() -> int:
    """Return 0, or 2 for bad input. With ``--fail``: 3 if a claim differs, 4 if an answerable claim was not run."""
    from bench.cli.command import run_command
    from bench.reports.paper.registry import CLAIMS

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run_dir", type=Path, nargs="?", help="run folder, or folder of run folders (default: newest)")
    parser.add_argument("--claims", type=Path, default=CLAIMS, help="file of claims (default: those of this project)")
    parser.add_argument("--gpu", choices=("yes", "no"), help="only claims that need a GPU, or only the others")
    parser.add_argument("--json", action="store_true", help="print one JSON list and nothing else")
    parser.add_argument("--markdown", action="store_true", help="print a table for a README")
    parser.add_argument("--reasons", action="store_true", help="also print the reason of every verdict")
    parser.add_argument("--fail", action="store_true", help="exit 3 if a claim differs, 4 if one was not run")
    arguments = parser.parse_args()
    return run_command(lambda: _check(arguments))


def _check(arguments: argparse.Namespace) -> int:
    from rich.console import Console

    from bench.cli.exits import EXIT_CLAIM_DIFFERS, EXIT_CLAIM_NOT_RUN, EXIT_OK
    from bench.reports.catalogue import all_figures
    from bench.reports.paper.judge import judge_all
    from bench.reports.paper.registry import load_claims
    from bench.reports.paper.render import as_json, as_markdown, as_table, summary
    from bench.reports.paper.runs import load_tables, newest_paper
    from bench.rows.run_folder import display_path

    claims = [claim for claim in load_claims(arguments.claims)
              if arguments.gpu is None or claim.gpu == (arguments.gpu == "yes")]  # fmt: skip
    folder = arguments.run_dir or newest_paper()
    verdicts = judge_all(claims, load_tables(folder), all_figures())
    if arguments.json:
        print(as_json(verdicts))
    elif arguments.markdown:
        print(as_markdown(verdicts), end="")
    else:
        console = Console(width=None if sys.stdout.isatty() else 180)
        console.print(as_table(verdicts))
        if arguments.reasons:
            for verdict in verdicts:
                basis = f" [{verdict.basis}]" if verdict.basis else ""
                print(f"{verdict.claim.id}: {verdict.verdict}{basis}: {verdict.reason}")
        print(f"{len(verdicts)} claims: {summary(verdicts)} (rows of {display_path(folder)})")
    if not arguments.fail:
        return EXIT_OK
    if any(verdict.verdict == "differs" for verdict in verdicts):
        return EXIT_CLAIM_DIFFERS
    not_run = any(v.verdict == "not run" and v.claim.answer and not v.claim.gpu for v in verdicts)
    return EXIT_CLAIM_NOT_RUN if not_run else EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
