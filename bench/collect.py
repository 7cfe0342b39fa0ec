"""After the last job: rows to table, figures and exit code."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from bench.claim import drop_leftovers
from bench.display import show_run
from bench.figures import draw_figures
from bench.plan import read_plan
from bench.run_state import exit_code
from bench.table import load_rows, write_table


def collect(run_dir: Path) -> int:
    """Write table and figures of the rows that are there, show them, return the exit code."""
    drop_leftovers(run_dir)
    table = load_rows(run_dir)
    write_table(table, run_dir)
    drawn = draw_figures(table, run_dir / "figures")
    planned = len(read_plan(run_dir).jobs())
    show_run(table, run_dir, planned=planned, figures=drawn)
    return exit_code(Counter(table["status"]) + Counter(planned=planned - len(table)))
