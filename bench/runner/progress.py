"""Print the plan before a run, and the progress during it."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import rich.progress
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.config.numbers import NO_VALUE, counted, exact_size_text, size_text
from bench.plan.points import Plan, Point
from bench.rows.neutral import for_terminal
from bench.rows.record import FAILED, is_pending
from bench.rows.run_folder import earlier_seconds

PLAIN_WIDTH = 200
"""Width in characters of a table that is not printed to a terminal."""


def label(question: Mapping[str, Any]) -> str:
    """Return a short description of a point's question."""
    named = [question["scenario"]["name"], (question["impl"] or question["policy"] or {}).get("name")]
    shown = ("page_size", "num_seqs", "page_layout")
    axes = [f"{name}={question[name]}" for name in shown if question[name] is not None]
    return " ".join([str(name) for name in named if name] + axes)


def labels(points: Iterable[Point]) -> dict[str, str]:
    """Return the label of each point by key. Equal labels are followed by the parameters in which the points differ."""
    alike: defaultdict[str, dict[str, Point]] = defaultdict(dict)
    for point in points:
        alike[label(point.question)][point.key] = point
    found = {}
    for text, group in alike.items():
        parameters = {key: {"model": point.config.model.name, **dict(_leaves(point.question))}
                      for key, point in group.items()}  # fmt: skip
        names = dict.fromkeys(name for values in parameters.values() for name in values)
        varying = [name for name in names if len({str(values.get(name)) for values in parameters.values()}) > 1]
        if "model" in varying:  # its name is shorter than its shape
            varying = [name for name in varying if not name.startswith("model.")]
        for key, values in parameters.items():
            added = [_override(name, values[name]) for name in varying if name in values]
            found[key] = for_terminal(" ".join([text, *added]))
    return found


def _override(name: str, value: Any) -> str:
    """Return a parameter as on the command line, where the budget has a unit."""
    if name == "memory_budget_bytes":
        return f"memory_budget={exact_size_text(value).replace(',', '').replace(' ', '')}"
    return f"{name}={value}"


def _leaves(question: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted name and the value of each parameter that is not null."""
    for name, value in question.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{name}.")
        elif value is not None:
            yield prefix + name, value


class Progress:
    """Shows the current point: in a bar on a terminal, and in plain lines elsewhere.

    Args:
        points: the point of each job. It occurs once per replicate.
    """

    def __init__(self, points: Sequence[Point]) -> None:
        self.total, self.done, self.failed, self.skipped = len(points), 0, 0, 0
        self._labels = labels(points)
        self.console = Console(stderr=True)
        self._bar = rich.progress.Progress(
            rich.progress.BarColumn(),
            rich.progress.MofNCompleteColumn(),
            rich.progress.TimeElapsedColumn(),
            rich.progress.TimeRemainingColumn(),
            rich.progress.TextColumn("{task.description}", markup=False),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )
        self._task = self._bar.add_task("", total=self.total)

    def __enter__(self) -> Progress:
        self._bar.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._bar.stop()

    def begin(self, point: Point) -> None:
        """Show a point that starts."""
        self._bar.update(self._task, description=self._counts() + self._labels[point.key])

    def end(self, point: Point, status: str) -> None:
        """Count and show a point whose row is written."""
        self.done += 1
        self.failed += status in FAILED
        self.skipped += status not in FAILED and status != "ok"
        self._bar.advance(self._task)
        if not self.console.is_terminal:
            print(f"[{self.done}/{self.total}] {self._labels[point.key]}: {status}", file=sys.stderr, flush=True)

    def _counts(self) -> str:
        return f"{self.failed} failed, {self.skipped} not run · " if self.failed or self.skipped else ""


def show_plan(plan: Plan, run_dir: Path | None = None) -> None:
    """Print the points that would run, and those that would not with the reason. No file is written.

    Args:
        plan: the points.
        run_dir: the run folder if a run is resumed. The table shows which of its points are finished.
    """
    seconds = earlier_seconds(point.key for point in plan.points)
    console = Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH)
    console.print(_plan_table(plan, seconds, run_dir))
    runs = [point for point in plan.points if point.skip_status is None]
    known = [seconds[point.key] for point in runs if point.key in seconds]
    total = f"{sum(known) * plan.replicates:.0f} s (from earlier runs)" if len(known) == len(runs) else "time unknown"
    console.print(
        f"{counted(len(plan.points), 'point')} × {counted(plan.replicates, 'replicate')}, "
        f"{counted(plan.merged, 'duplicate')} merged, "
        f"{counted(len(plan.points) - len(runs), 'point')} will not run, {total}",
        highlight=False,
    )


def _plan_table(plan: Plan, seconds: Mapping[str, float], run_dir: Path | None) -> Table:
    table = Table()
    for heading in ("key", "point", "storage", "seconds", "status"):
        table.add_column(heading, justify="right" if heading in ("storage", "seconds") else "left")
    named = labels(plan.points)
    for point in plan.points:
        size, earlier = point.predicted.get("storage_bytes"), seconds.get(point.key)
        table.add_row(
            point.key,
            Text(named[point.key]),
            size_text(size) if size is not None else NO_VALUE,
            f"{earlier:.1f}" if earlier is not None else "unknown",
            Text(for_terminal(_planned_status(point, plan.replicates, run_dir))),
        )
    return table


def _planned_status(point: Point, replicates: int, run_dir: Path | None) -> str:
    if point.skip_status is not None:
        return f"{point.skip_status}: {point.skip_reason}"
    if run_dir is None:
        return "planned"
    done = sum(not is_pending(run_dir, f"{point.key}-{replicate}") for replicate in range(replicates))
    return f"{done} of {replicates} finished" if done else "planned"
