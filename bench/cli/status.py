"""Read the status of a run from its folder: rows, leases and planned jobs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from bench.cli.exits import EXIT_OK, EXIT_POINTS_FAILED
from bench.plan.points import PlannedJob, read_jobs
from bench.rows.neutral import for_terminal
from bench.rows.record import FAILED, read_row, row_path
from bench.runner.job import resume_command
from bench.runner.lease import is_free, lease_path
from bench.runner.progress import label


@dataclass(frozen=True, kw_only=True)
class RunState:
    """The status of a run at one moment.

    Attributes:
        run_dir: the run folder.
        counts: number of jobs by status. A job without a row is ``running``, ``interrupted`` or ``planned``.
        running: labels of the running jobs.
        failures: one line per failed row.
    """

    run_dir: Path
    counts: Counter[str]
    running: tuple[str, ...]
    failures: tuple[str, ...]

    @property
    def exit_code(self) -> int:
        """The exit code that the run would have if it ended now."""
        return exit_code(self.counts)


def exit_code(counts: Mapping[str, int]) -> int:
    """Return 0 if every planned job has a row, no row failed and at least one is ok. Else return 4.

    Args:
        counts: number of jobs by status. A job without a row is ``running``, ``interrupted`` or ``planned``.
    """
    bad = {"running", "interrupted", "planned"} | FAILED
    complete = not any(counts.get(status) for status in bad)
    return EXIT_OK if complete and counts.get("ok") else EXIT_POINTS_FAILED


def read_state(run_dir: Path) -> RunState:
    """Read the status of a run. Other processes may write to the folder at the same time.

    Raises:
        ValueError: the folder is no run folder.
    """
    counts: Counter[str] = Counter()
    running, failures = [], []
    for job in read_jobs(run_dir):
        path = row_path(run_dir, job.key, job.replicate)
        status = _status_of_lease(lease_path(run_dir, f"{job.key}-{job.replicate}"))
        if path.exists():
            row = read_row(path)
            status = row["status"]
            if status in FAILED:
                failures.append(_failure(job, row))
        elif status == "running":
            running.append(label(job.question))
        counts[status] += 1
    return RunState(run_dir=run_dir, counts=counts, running=tuple(running), failures=tuple(failures))


def _status_of_lease(path: Path) -> str:
    """Return the status of a job without a row. Its lease is left but free if the process was killed."""
    if not path.exists():
        return "planned"
    return "interrupted" if is_free(path) else "running"


def _failure(job: PlannedJob, row: dict[str, Any]) -> str:
    return f"{row['status']}: {label(job.question)}: {row['status_reason']} (log: {row['log']})"


def render(state: RunState) -> RenderableType:
    """Return what a terminal shows: counts, running jobs, failed jobs, and the command that resumes the run."""
    table = Table("status", "jobs")
    for status, count in state.counts.most_common():
        table.add_row(Text(for_terminal(status)), str(count))
    lines = [*(f"running: {what}" for what in state.running), *state.failures]
    if not state.running and state.exit_code != EXIT_OK:
        lines.append(f"resume with: {resume_command(state.run_dir)}")
    return Group(table, *(Text(for_terminal(line)) for line in lines))
