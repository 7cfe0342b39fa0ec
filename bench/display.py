"""What a person sees: progress while a run goes on, then the table, then where things are."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import rich.progress
from rich.console import Console
from rich.table import Table

from bench.columns import BY_NAME
from bench.plan import Point
from bench.record import FAILED
from bench.run_folder import display_path
from bench.units import mib

SHOWN = {
    "implementation": "implementation",
    "policy": "policy",
    "page_layout": "layout",
    "page_size": "page",
    "num_seqs": "seqs",
    "memory_budget_bytes": "budget",
    "admitted_seqs": "admitted",
    "decode_us": "decode µs",
    "decode_hot_us": "hot µs",
    "decode_us_per_ktoken": "µs/ktoken",
    "append_us": "append µs",
    "prepare_us": "prepare µs",
    "policy_ns_per_op": "policy ns/op",
    "achieved_gbps": "GB/s",
    "ceiling_ratio": "of ceiling",
    "live_bytes": "live",
    "reserved_bytes": "reserved",
    "internal_fragmentation_bytes": "internal",
    "external_fragmentation_bytes": "external",
    "free_bytes": "free",
    "process_memory_rise_bytes": "resident rise",
    "max_rel_error": "rel. error",
    "status": "status",
}
"""Columns of the printed table and their headings; those that are null everywhere are left out."""

MARKED = ("admitted_seqs", "decode_us", "decode_hot_us", "decode_us_per_ktoken", "append_us", "prepare_us",
          "policy_ns_per_op", "achieved_gbps", "process_memory_rise_bytes")  # fmt: skip
"""Columns whose best value is marked, among rows of equal ``batch_digest``."""


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


def show_run(table: pd.DataFrame, run_dir: Path, *, planned: int, figures: Sequence[Path]) -> None:
    """Print the table, what did not work and why, and where everything is."""
    console = Console(width=None if sys.stdout.isatty() else 250)
    if len(table):
        console.print(_rich_table(table))
    for line in problems(table, planned):
        console.print(line, markup=False, highlight=False)
    console.print(_time_line(table), markup=False, highlight=False)
    places = {"rows": run_dir / "points", "table": run_dir / "table.csv", "figures": run_dir / "figures",
              "logs": run_dir / "logs"}  # fmt: skip
    for name, path in places.items():
        print(f"{name:8}{display_path(path)}")


def _rich_table(table: pd.DataFrame) -> Table:
    shown = [name for name in SHOWN if table[name].notna().any()]
    best = {name: _best_rows(table, name) for name in shown if name in MARKED}
    out = Table(caption="* best of its column among rows that did equal work", caption_justify="left")
    for name in shown:
        out.add_column(SHOWN[name], justify="left" if table[name].dtype == object else "right", no_wrap=True)
    for index, row in table.iterrows():
        out.add_row(*[_cell(name, row[name], index in best.get(name, ())) for name in shown])
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
    if pd.isna(value):
        return "–"
    if name.endswith("_bytes"):
        text = mib(value)
    elif name == "max_rel_error":
        text = f"{value:.1e}"
    elif isinstance(value, float):
        text = f"{value:,.3f}" if value < 10 else f"{value:,.1f}"
    else:
        text = str(value)
    return f"[bold green]{text}*[/]" if is_best else text


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
