"""After the last job: rows to table, figures and exit code."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pandas as pd

from bench.cli.status import exit_code
from bench.plan.points import read_plan
from bench.reports.display import show_run
from bench.rows.table import load_rows, write_table
from bench.runner.lease import drop_leftovers


def collect(run_dir: Path, *, draw: bool) -> int:
    """Write table and figures of the rows that are there, show them, return the exit code."""
    drop_leftovers(run_dir)
    table = load_rows(run_dir)
    write_table(table, run_dir)
    drawn = _drawn(table, run_dir) if draw else []
    planned = len(read_plan(run_dir).jobs())
    show_run(table, run_dir, planned=planned, figures=drawn)
    return exit_code(Counter(table["status"]) + Counter(planned=planned - len(table)))


def _drawn(table: pd.DataFrame, run_dir: Path) -> list[Path]:
    from bench.reports.figures import (
        draw_figures,  # seconds of imports, which a run that draws nothing need not wait for
    )

    return draw_figures(table, run_dir / "figures")
