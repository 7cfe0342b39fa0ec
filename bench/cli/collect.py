"""Write table and figures after the last job."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

from bench.cli.command import discard_output
from bench.cli.status import exit_code
from bench.plan.points import read_jobs
from bench.reports.catalogue import draw_figures
from bench.reports.display import show_run
from bench.rows.table import load_rows, write_table
from bench.runner.lease import remove_finished_leases


def collect(run_dir: Path, *, draw: bool) -> int:
    """Write and show table and figures of the rows so far. Return the exit code of the run.

    Args:
        run_dir: the run folder.
        draw: whether figures are drawn.
    """
    remove_finished_leases(run_dir)
    table = load_rows(run_dir)
    write_table(table, run_dir)
    drawn = draw_figures(table, run_dir / "figures") if draw else []
    planned = len(read_jobs(run_dir))
    try:
        show_run(table, run_dir, planned=planned, figures=drawn)
    except BrokenPipeError:
        raise
    except OSError as error:  # the files are complete: lost output is no failure of the run
        discard_output()
        print(f"error: the tables could not be printed: {error.strerror}", file=sys.stderr)
    return exit_code(Counter(table["status"]) + Counter(planned=planned - len(table)))
