"""After the last job: rows to table, figures and exit code."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from bench.claim import drop_leftovers
from bench.cli import EXIT_OK, EXIT_POINTS_FAILED
from bench.display import show_run
from bench.figures import draw_figures
from bench.plan import read_plan
from bench.record import FAILED
from bench.table import load_rows, write_table


def collect(run_dir: Path) -> int:
    """Write table and figures of the rows that are there, show them, return the exit code."""
    drop_leftovers(run_dir)
    table = load_rows(run_dir)
    write_table(table, run_dir)
    drawn = draw_figures(table, run_dir / "figures")
    planned = len(read_plan(run_dir).jobs())
    show_run(table, run_dir, planned=planned, figures=drawn)
    return exit_code(table, planned)


def exit_code(table: pd.DataFrame, planned: int) -> int:
    """0 if every planned row is there and none failed, else 4."""
    failed = table["status"].isin(FAILED).any() or len(table) < planned
    return EXIT_POINTS_FAILED if failed else EXIT_OK
