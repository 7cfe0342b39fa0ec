"""What a person sees: progress while a run goes on, then the table, then where things are."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import rich.progress
from rich.console import Console
from rich.table import Table

from bench.columns import BY_NAME
from bench.plan import Plan, Point
from bench.record import FAILED, is_pending
from bench.run_folder import display_path, earlier_seconds
from bench.units import mib

ASKED = {
    "scenario": "scenario",
    "model": "model",
    "workload": "workload",
    "device": "device",
    "dtype": "dtype",
    "implementation": "implementation",
    "policy": "policy",
    "page_layout": "layout",
    "page_size": "page",
    "num_seqs": "seqs",
    "memory_budget_bytes": "budget",
    "seed": "seed",
    "replicate": "replicate",
}
"""What identifies a row: a column where it varies, said once above the tables where it does not."""

TIMES = {
    "decode_us": "decode µs",
    "decode_hot_us": "hot µs",
    "decode_us_per_ktoken": "µs/ktoken",
    "append_us": "append µs",
    "prepare_us": "prepare µs",
    "policy_ns_per_op": "policy ns/op",
    "achieved_gbps": "GB/s",
    "ceiling_ratio": "of ceiling",
    "max_rel_error": "rel. error",
    "status": "status",
}

MEMORY = {
    "admitted_seqs": "admitted",
    "refused_seqs": "refused",
    "pool_bytes": "pool",
    "live_bytes": "live",
    "reserved_bytes": "reserved",
    "internal_fragmentation_bytes": "internal",
    "external_fragmentation_bytes": "external",
    "cached_bytes": "cached",
    "free_bytes": "free",
    "storage_bytes": "storage",
    "process_memory_rise_bytes": "process rise",
    "device_memory_bytes": "device",
    "torch_difference_bytes": "torch − pool",
    "process_difference_bytes": "process − pool",
    "device_difference_bytes": "device − pool",
}

MARKED = ("admitted_seqs", "decode_us", "decode_hot_us", "decode_us_per_ktoken", "append_us", "prepare_us",
          "policy_ns_per_op", "achieved_gbps", "process_memory_rise_bytes")  # fmt: skip
"""Columns whose best value is marked, among rows of equal ``batch_digest``."""

PLAIN_WIDTH = 200
"""Width of a table that does not go to a terminal."""


def label(point: Point) -> str:
    """A point in a few words."""
    asked = point.question
    named = [asked["scenario"]["name"], (asked["impl"] or asked["policy"] or {}).get("name")]
    axes = [f"{name}={asked[name]}" for name in ("page_size", "num_seqs", "page_layout") if asked[name] is not None]
    return " ".join([str(name) for name in named if name] + axes)


class Progress:
    """A bar on a terminal, plain lines elsewhere; both name the current point."""

    def __init__(self, total: int) -> None:
        self.total, self.done, self.failed, self.skipped = total, 0, 0, 0
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
        self._task = self._bar.add_task("", total=total)

    def __enter__(self) -> Progress:
        self._bar.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._bar.stop()

    def begin(self, point: Point) -> None:
        """A point starts."""
        self._bar.update(self._task, description=self._counts() + label(point))

    def end(self, point: Point, status: str) -> None:
        """A point has its row."""
        self.done += 1
        self.failed += status in FAILED
        self.skipped += status not in FAILED and status != "ok"
        self._bar.advance(self._task)
        if not self.console.is_terminal:
            print(f"[{self.done}/{self.total}] {label(point)}: {status}", file=sys.stderr, flush=True)

    def _counts(self) -> str:
        return f"{self.failed} failed, {self.skipped} not run · " if self.failed or self.skipped else ""


def show_plan(plan: Plan, run_dir: Path | None = None) -> None:
    """Print what would be run, what would not and why; nothing is written.

    Args:
        plan: the points.
        run_dir: the run that is resumed, if one is; its finished points are marked.
    """
    out = Table()
    for heading in ("key", "point", "storage", "seconds", "status"):
        out.add_column(heading, justify="right" if heading in ("storage", "seconds") else "left")
    seconds = earlier_seconds(point.key for point in plan.points)
    for point in plan.points:
        size, took = point.predicted.get("storage_bytes"), seconds.get(point.key)
        out.add_row(
            point.key,
            label(point),
            mib(size) if size is not None else "–",
            f"{took:.1f}" if took is not None else "unknown",
            _planned_status(point, plan.replicates, run_dir),
        )
    console = Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH)
    console.print(out)
    runs = [point for point in plan.points if point.skip_status is None]
    known = [seconds[point.key] for point in runs if point.key in seconds]
    total = f"{sum(known) * plan.replicates:.0f} s by earlier runs" if len(known) == len(runs) else "time unknown"
    console.print(
        f"{len(plan.points)} points × {plan.replicates} replicates, {plan.merged} duplicates merged, "
        f"{len(plan.points) - len(runs)} not to be run; {total}",
        highlight=False,
    )


def _planned_status(point: Point, replicates: int, run_dir: Path | None) -> str:
    if point.skip_status is not None:
        return f"{point.skip_status}: {point.skip_reason}"
    if run_dir is None:
        return "planned"
    done = sum(not is_pending(run_dir, f"{point.key}-{replicate}") for replicate in range(replicates))
    return f"{done} of {replicates} finished" if done else "planned"


def show_run(table: pd.DataFrame, run_dir: Path, *, planned: int, figures: Sequence[Path]) -> None:
    """Print the tables, what did not work and why, and where everything is."""
    console = Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH)
    if len(table):
        show_tables(table, console)
    for line in [*problems(table, planned), _time_line(table)]:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    places = {"rows": "points", "table": "table.csv", "logs": "logs", **({"figures": "figures"} if figures else {})}
    for name, place in places.items():
        print(f"{name:8}{display_path(run_dir / place)}")


def show_tables(table: pd.DataFrame, console: Console) -> None:
    """What was asked, then times, then memory over all layers; columns null everywhere are left out."""
    varying = [name for name in ASKED if table[name].nunique(dropna=True) > 1]
    said_once = [f"{heading} {_text(name, table[name].dropna().iloc[0])}" for name, heading in ASKED.items()
                 if name not in varying and name != "replicate" and table[name].notna().any()]  # fmt: skip
    console.print(" · ".join(said_once), markup=False, highlight=False, soft_wrap=True)
    for columns, rows in ((TIMES, table), (MEMORY, table[table["pool_bytes"].notna()])):
        shown = [name for name in columns if rows[name].notna().any()]
        if shown:
            console.print(_rich_table(rows, {name: ASKED[name] for name in varying} | {n: columns[n] for n in shown}))
    console.print("* best of its column among rows that did equal work", highlight=False)


def _rich_table(table: pd.DataFrame, headings: Mapping[str, str]) -> Table:
    best = {name: _best_rows(table, name) for name in headings if name in MARKED}
    out = Table()
    for name, heading in headings.items():
        out.add_column(
            heading, justify="left" if any(isinstance(value, str) for value in table[name]) else "right", no_wrap=True
        )
    for index, row in table.iterrows():
        out.add_row(*[_cell(name, row[name], index in best.get(name, ())) for name in headings])
    return out


def _best_rows(table: pd.DataFrame, name: str) -> set[Any]:
    """Index labels of the best value within each group of equal work; a lone row is no winner."""
    ok = table[table["status"].eq("ok") & table[name].notna()]
    best: set[Any] = set()
    for _, group in ok.groupby("batch_digest"):
        if group["key"].nunique() < 2 or group[name].nunique() < 2:
            continue
        winner = group[name].min() if BY_NAME[name].better == "lower" else group[name].max()
        best.update(group.index[group[name] == winner])
    return best


def _cell(name: str, value: Any, is_best: bool) -> str:
    return f"[bold green]{_text(name, value)}*[/]" if is_best else _text(name, value)


def _text(name: str, value: Any) -> str:
    """A value as people read it."""
    if pd.isna(value):
        return "–"
    if name.endswith("_bytes"):
        return mib(value)
    if name == "max_rel_error":
        return f"{value:.1e}"
    if isinstance(value, float):
        return f"{value:,.3f}" if value < 10 else f"{value:,.1f}"
    return str(value)


def problems(table: pd.DataFrame, planned: int) -> list[str]:
    """One line per row that is not ok, and one for rows that are missing."""
    lines = []
    for _, row in table[table["status"] != "ok"].iterrows():
        who = row["implementation"] if pd.notna(row["implementation"]) else row["policy"]
        page = f" page_size={row['page_size']}" if pd.notna(row["page_size"]) else ""
        log = f" (log: {row['log']})" if row["status"] in FAILED and pd.notna(row["log"]) else ""
        lines.append(f"{row['status']}: {who}{page}: {row['status_reason']}{log}")
    if len(table) < planned:
        lines.append(f"{planned - len(table)} of {planned} planned rows are missing")
    return lines


def _time_line(table: pd.DataFrame) -> str:
    ran = table[table["measured_s"].fillna(0) > 0]
    if ran.empty:
        return "no point was run"
    return (f"{len(ran)} points run: {ran['measured_s'].sum():.1f} s measuring, "
            f"{ran['harness_s'].mean():.2f} s of harness per point")  # fmt: skip
