"""After the last job: rows to table, figures and exit code."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from bench.cli.status import exit_code
from bench.plan.points import read_jobs
from bench.reports.catalogue import draw_figures
from bench.reports.display import show_run
from bench.rows.table import load_rows, write_table
from bench.runner.lease import drop_leftovers


def collect(run_dir: Path, *, draw: bool) -> int:
    """Write table and figures of the rows that are there, show them, return the exit code."""
    drop_leftovers(run_dir)
    table = load_rows(run_dir)
    write_table(table, run_dir)
    drawn = draw_figures(table, run_dir / "figures") if draw else []
    planned = len(read_jobs(run_dir))
    show_run(table, run_dir, planned=planned, figures=drawn)
    return exit_code(Counter(table["status"]) + Counter(planned=planned - len(table)))
