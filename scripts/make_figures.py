"""Draw the figures of a run from its rows: ``python scripts/make_figures.py results/runs/latest``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:] = [str(ROOT), *(path for path in sys.path if Path(path).resolve() != ROOT / "scripts")]


def main() -> int:
    """Return 0, or 2 for bad input."""
    from bench.cli.command import run_command

    parser = argparse.ArgumentParser(description=__doc__)
    latest = ROOT / "results" / "runs" / "latest"
    parser.add_argument("run_dir", type=Path, nargs="?", default=latest, help="run folder (default: the newest)")
    parser.add_argument("--list", action="store_true", help="print every figure, its question and its command")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="draw this one (may be repeated)")
    parser.add_argument("--paper", action="store_true", help="draw the figures of make paper")
    parser.add_argument("--out", type=Path, help="target folder (default: figures/ of the run)")
    arguments = parser.parse_args()
    return run_command(lambda: _draw(arguments))


def _draw(arguments: argparse.Namespace) -> int:
    from bench.config import one_of
    from bench.reports.catalogue import all_figures, draw_figures, paper_figures
    from bench.reports.paper.runs import load_tables

    figures = all_figures()
    if arguments.list:
        for figure in figures:
            print(f"{figure.name:24}{figure.question}  [{figure.command}]")
        return 0
    for name in arguments.only:
        one_of(name, [figure.name for figure in figures], "--only")
    table = load_tables(arguments.run_dir)
    wanted = [*arguments.only, *(figure.name for figure in paper_figures() if arguments.paper)]
    drawn = draw_figures(table, arguments.out or arguments.run_dir / "figures", wanted)
    for figure in figures:
        if wanted and figure.name not in wanted:
            continue
        path = next((path for path in drawn if path.stem == figure.name), None)
        print(path if path else f"{figure.name}: this run has no rows for it. Make them with: {figure.command}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
