"""Print the end of a run: the tables, failed rows with reasons, and the paths of the results."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.config.numbers import counted, number_text
from bench.measure.machine.fitness import ADVICE
from bench.reports.paging_cost import COSTS, EQUAL_WORK, missing_arms, paging_costs
from bench.rows.columns import BY_NAME
from bench.rows.columns.column import PrintedTable
from bench.rows.columns.printing import printed_in, value_text
from bench.rows.invariants import CEILING_MARGIN
from bench.rows.neutral import for_terminal
from bench.rows.record import FAILED
from bench.rows.run_folder import display_path
from bench.runner.progress import PLAIN_WIDTH

TABLES: Mapping[PrintedTable, str] = {
    "times": "key",
    "memory": "pool_bytes",
    "counts": "admissions",
    "serving": "finished_requests",
}
"""Printed tables in order. A row is in a table if it has a value of the named column."""

COST_HEADINGS = {
    "paging_cost_layout": "layout cost",
    "paging_cost_indirection": "× indirection",
    "kernel_cost": "× kernel",
    "paging_cost_total": "= total",
}
"""Headings of the columns of ``bench.reports.paging_cost``."""

UNKNOWN_CODE = "a newer version of this project wrote this reason"
MOST_ROWS = 200
"""Most rows of one printed table. Printing thousands takes longer than measuring them."""


def show_run(table: pd.DataFrame, run_dir: Path, *, planned: int, figures: Sequence[Path]) -> None:
    """Print the tables, failed rows with reasons, and the paths of the results."""
    console = Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH)
    if len(table):
        show_tables(table, console)
    for line in [*problems(table, planned), *doubts(table), _time_line(table)]:
        console.print(for_terminal(line), markup=False, highlight=False, soft_wrap=True)
    places = {"rows": "points", "table": "table.csv", "logs": "logs", **({"figures": "figures"} if figures else {})}
    for name, place in places.items():
        print(f"{name:8}{display_path(run_dir / place)}")


def show_tables(table: pd.DataFrame, console: Console) -> None:
    """Print the question, then times, then memory over all layers, without columns that are null everywhere.

    The registry of columns decides which columns are in which table, their order and their headings.
    """
    question = [column.name for column in printed_in("question")]
    varying = [name for name in question if table[name].nunique(dropna=True) > 1]
    constant = [name for name in question if name not in (*varying, "replicate") and table[name].notna().any()]
    facts = [f"{BY_NAME[name].printed} {value_text(name, table[name].dropna().iloc[0])}" for name in constant]
    console.print(for_terminal(" · ".join(facts)), markup=False, highlight=False, soft_wrap=True)
    marked = False
    for printed_table, needed in TABLES.items():
        rows = table[table[needed].notna()]
        shown = [column.name for column in printed_in(printed_table) if rows[column.name].notna().any()]
        if shown:
            best = {name: _best_rows(rows, name) for name in shown if BY_NAME[name].marks_best}
            marked |= any(best.values())
            console.print(_rich_table(rows, _headings(varying + shown), best))
            if len(rows) > MOST_ROWS:
                console.print(f"… and {number_text(len(rows) - MOST_ROWS)} more rows in table.csv", highlight=False)
    if marked:
        console.print("* best of its column among rows that did equal work, without doubtful times", highlight=False)
    _show_costs(table, console)


def _show_costs(table: pd.DataFrame, console: Console) -> None:
    """Print the cost of paging, if at least one cost has both of its arms."""
    costs = paging_costs(table)
    if costs[list(COSTS)].notna().any(axis=None):
        question = {column.name for column in printed_in("question")}
        varying = [name for name in EQUAL_WORK if name in question and costs[name].nunique(dropna=False) > 1]
        console.print(_rich_table(costs, _headings([*varying, "page_layout", "page_size"]) | COST_HEADINGS, {}))
        for line in missing_arms(costs):
            console.print(for_terminal(line), markup=False, highlight=False, soft_wrap=True)


def _headings(names: Iterable[str]) -> dict[str, str]:
    return {name: BY_NAME[name].printed for name in names}


def _rich_table(table: pd.DataFrame, headings: Mapping[str, str], best: Mapping[str, set[Any]]) -> Table:
    """Return the columns of ``headings``, with a mark at the index labels ``best`` of a column."""
    out = Table()
    for name, heading in headings.items():
        out.add_column(
            heading, justify="left" if any(isinstance(value, str) for value in table[name]) else "right", no_wrap=True
        )
    for index, row in table.head(MOST_ROWS).iterrows():
        out.add_row(*[_cell(name, row[name], index in best.get(name, ())) for name in headings])
    return out


def _best_rows(table: pd.DataFrame, name: str) -> set[Any]:
    """Return index labels of the best value within each group of equal work.

    A single row is not marked. Neither is one whose fitness is doubtful, or whose time is that of a cache.
    """
    ok = table[table["status"].eq("ok") & table[name].notna()]
    if BY_NAME[name].kind == "timing":
        doubtful = ok["fitness"].eq("doubtful").fillna(value=False)
        ok = ok[~doubtful & ~ok["ceiling_ratio"].gt(CEILING_MARGIN).fillna(value=False)]
    best: set[Any] = set()
    for _, group in ok.groupby("batch_digest"):
        if group["key"].nunique() < 2 or group[name].nunique() < 2:
            continue
        winner = group[name].min() if BY_NAME[name].better == "lower" else group[name].max()
        best.update(group.index[group[name] == winner])
    return best


def _cell(name: str, value: Any, is_best: bool) -> Text:
    text = for_terminal(value_text(name, value))
    return Text(f"{text}*", style="bold green") if is_best else Text(text)


def problems(table: pd.DataFrame, planned: int) -> list[str]:
    """Return one line per row that is not ok, and one for missing rows."""
    lines = []
    for _, row in table[table["status"] != "ok"].iterrows():
        subject = row["implementation"] if pd.notna(row["implementation"]) else row["policy"]
        page = f" page_size={row['page_size']}" if pd.notna(row["page_size"]) else ""
        log = f" (log: {row['log']})" if row["status"] in FAILED and pd.notna(row["log"]) else ""
        lines.append(f"{row['status']}: {subject}{page}: {row['status_reason']}{log}")
    if len(table) < planned:
        lines.append(f"{planned - len(table)} of {planned} planned rows are missing")
    if not table["status"].eq("ok").any():
        lines.append("nothing was measured: no row is ok")
    return lines


def doubts(table: pd.DataFrame) -> list[str]:
    """Return one line per kind of doubt about the times: number of rows, one example, and advice."""
    reasons = [part for text in table["fitness_reasons"].dropna() for part in text.split("; ")]
    by_code: dict[str, list[str]] = {}
    for reason in reasons:
        by_code.setdefault(reason.partition(":")[0], []).append(reason)
    return [
        f"doubtful: {len(found)} of {counted(len(table), 'row')}: {found[0]}; {ADVICE.get(code, UNKNOWN_CODE)}"
        for code, found in by_code.items()
    ]


def _time_line(table: pd.DataFrame) -> str:
    ran = table[table["measured_s"].fillna(0) > 0]
    if ran.empty:
        return "no row was measured"
    return (f"{counted(len(ran), 'row')} measured in {ran['measured_s'].sum():.1f} s, "
            f"{ran['harness_s'].mean():.2f} s of harness per row")  # fmt: skip
