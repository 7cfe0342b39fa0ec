"""Where a sweep stands, read from its folder alone: finished rows, live claims, the rest."""

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
from bench.rows.record import FAILED, read_row, row_path
from bench.runner.job import resume_command
from bench.runner.lease import is_free
from bench.runner.progress import label


@dataclass(frozen=True, kw_only=True)
class RunState:
    """A snapshot of a run.

    Attributes:
        run_dir: its folder.
        counts: jobs by status; ``running``, ``interrupted`` and ``planned`` for those without a row.
        running: labels of the jobs that are being worked on.
        failures: one line per failed row.
    """

    run_dir: Path
    counts: Counter[str]
    running: tuple[str, ...]
    failures: tuple[str, ...]

    @property
    def exit_code(self) -> int:
        """What the run itself would exit with if it ended now."""
        return exit_code(self.counts)


def exit_code(counts: Mapping[str, int]) -> int:
    """0 if every planned job has a row, none failed and at least one was measured, else 4.

    Args:
        counts: jobs by status; ``running``, ``interrupted`` and ``planned`` for those without a row.
    """
    bad = {"running", "interrupted", "planned"} | FAILED
    complete = not any(counts.get(status) for status in bad)
    return EXIT_OK if complete and counts.get("ok") else EXIT_POINTS_FAILED


def read_state(run_dir: Path) -> RunState:
    """Read a run folder; it may be written to at the same time.

    Raises:
        ValueError: no run folder.
    """
    counts: Counter[str] = Counter()
    running, failures = [], []
    for job in read_jobs(run_dir):
        path = row_path(run_dir, job.key, job.replicate)
        status = _status_without_row(run_dir, f"{job.key}-{job.replicate}")
        if path.exists():
            row = read_row(path)
            status = row["status"]
            if status in FAILED:
                failures.append(_failure(job, row))
        elif status == "running":
            running.append(label(job.question))
        counts[status] += 1
    return RunState(run_dir=run_dir, counts=counts, running=tuple(running), failures=tuple(failures))


def _status_without_row(run_dir: Path, name: str) -> str:
    """A claim that nobody alive holds is what a killed sweep leaves."""
    claim = run_dir / "claims" / f"{name}.json"
    if not claim.exists():
        return "planned"
    return "interrupted" if is_free(claim) else "running"


def _failure(job: PlannedJob, row: dict[str, Any]) -> str:
    return f"{row['status']}: {label(job.question)}: {row['status_reason']} (log: {row['log']})"


def render(state: RunState) -> RenderableType:
    """For a terminal: counts, what runs, what failed, and how to go on."""
    table = Table("status", "jobs")
    for status, count in state.counts.most_common():
        table.add_row(status, str(count))
    lines = [*(f"running: {what}" for what in state.running), *state.failures]
    if not state.running and state.exit_code != EXIT_OK:
        lines.append(f"go on with: {resume_command(state.run_dir)}")
    return Group(table, *(Text(line) for line in lines))
