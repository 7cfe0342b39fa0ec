"""Write the report of a run into its folder: ``python scripts/report.py results/runs/latest``."""

from __future__ import annotations

import argparse
import os
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
    parser.add_argument("--out", type=Path, help="file to write (default: report.md of the run, - prints it)")
    arguments = parser.parse_args()
    return run_command(lambda: _report(arguments))


def _report(arguments: argparse.Namespace) -> int:
    from bench.reports.markdown import markdown_report
    from bench.rows.run_folder import read_environment
    from bench.rows.table import load_rows

    table = load_rows(arguments.run_dir)
    out = arguments.out or arguments.run_dir / "report.md"
    figures = sorted((arguments.run_dir / "figures").glob("*.png"))
    folder = arguments.run_dir if str(out) == "-" else out.parent
    text = markdown_report(table, read_environment(arguments.run_dir), [os.path.relpath(f, folder) for f in figures])
    if str(out) == "-":
        print(text, end="")
    else:
        out.write_text(text, encoding="utf-8")
        print(out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
