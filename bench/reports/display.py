"""Print the end of a run: the tables, failed rows with reasons, and the paths of the results."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table

from bench.config.units import mib
from bench.measure.machine.fitness import ADVICE
from bench.reports.paging_cost import COSTS, EQUAL_WORK, missing_arms, paging_costs
from bench.rows.columns import BY_NAME
from bench.rows.record import FAILED
from bench.rows.run_folder import display_path
from bench.runner.progress import PLAIN_WIDTH

ASKED = {
    "scenario": "scenario",
    "model": "model",
    "workload": "workload",
    "device": "device",
    "dtype": "dtype",
    "attention_shape": "heads",
    "implementation": "implementation",
    "policy": "policy",
    "page_layout": "layout",
    "page_size": "page",
    "page_moves": "moves",
    "chunk_tokens": "chunk",
    "cached_tokens": "cached",
    "num_seqs": "seqs",
    "rate_per_s": "rate /s",
    "sampling": "sampling",
    "num_samples": "samples",
    "memory_budget_bytes": "budget",
    "seed": "seed",
    "replicate": "replicate",
}
"""Columns that identify a row. A varying one is printed as a column, a constant one once above the tables."""

TIMES = {
    "prefill_us": "prefill µs",
    "prefill_us_per_ktoken": "prefill µs/ktoken",
    "prefill_tflops": "TFLOP/s",
    "linear_us": "linear µs",
    "swap_out_us": "swap out µs",
    "swap_in_us": "swap in µs",
    "copy_pages_us": "copy pages µs",
    "swap_out_gbps": "out GB/s",
    "swap_in_gbps": "in GB/s",
    "copy_pages_gbps": "copy GB/s",
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

MEMORY_HEADINGS = {
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

COUNT_HEADINGS = {
    "running_mean": "running",
    "most_running_seqs": "most",
    "admissions": "admissions",
    "appends": "appends",
    "preemptions": "preempted",
    "delayed_requests": "delayed",
    "pages_taken_admit": "pages: admit",
    "pages_taken_append": "append",
    "peak_pages": "peak",
    "largest_free_ratio": "largest free",
    "steps": "steps",
    "replay_s": "replay s",
}

SERVING_HEADINGS = {
    "finished_requests": "finished",
    "unfinished_requests": "unfinished",
    "batched_requests_mean": "batched",
    "preemptions": "preempted",
    "ttft_ms_mean": "TTFT ms",
    "tpot_ms_mean": "TPOT ms",
    "itl_ms_p99": "ITL p99 ms",
    "e2e_ms_mean": "e2e ms",
    "normalized_latency_ms_per_token": "normalized ms/token",
    "pages_saved_ratio": "pages saved",
    "replay_s": "replay s",
}
"""Modelled times, except for the last column."""

COST_HEADINGS = {
    "page_layout": "layout",
    "page_size": "page",
    "paging_cost_layout": "layout cost",
    "paging_cost_indirection": "× indirection",
    "kernel_cost": "× kernel",
    "paging_cost_total": "= total",
}
"""Columns of ``bench.reports.paging_cost``, after the columns that vary."""

MARKED = ("admitted_seqs", "prefill_us", "prefill_us_per_ktoken", "prefill_tflops", "swap_out_us", "swap_in_us",
          "copy_pages_us", "decode_us", "decode_hot_us", "decode_us_per_ktoken", "append_us", "prepare_us",
          "policy_ns_per_op", "achieved_gbps", "process_memory_rise_bytes", "batched_requests_mean",
          "normalized_latency_ms_per_token")  # fmt: skip
"""Columns whose best value is marked, among rows of equal ``batch_digest``."""


MOST_ROWS = 200
"""Most rows of one printed table. Drawing thousands takes longer than measuring them."""


def show_run(table: pd.DataFrame, run_dir: Path, *, planned: int, figures: Sequence[Path]) -> None:
    """Print the tables, failed rows with reasons, and the paths of the results."""
    console = Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH)
    if len(table):
        show_tables(table, console)
    for line in [*problems(table, planned), *doubts(table), _time_line(table)]:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    places = {"rows": "points", "table": "table.csv", "logs": "logs", **({"figures": "figures"} if figures else {})}
    for name, place in places.items():
        print(f"{name:8}{display_path(run_dir / place)}")


def show_tables(table: pd.DataFrame, console: Console) -> None:
    """Print the question, then times, then memory over all layers, without columns that are null everywhere."""
    varying = [name for name in ASKED if table[name].nunique(dropna=True) > 1]
    said_once = [f"{heading} {_text(name, table[name].dropna().iloc[0])}" for name, heading in ASKED.items()
                 if name not in varying and name != "replicate" and table[name].notna().any()]  # fmt: skip
    console.print(" · ".join(said_once), markup=False, highlight=False, soft_wrap=True)
    for columns, rows in (
        (TIMES, table),
        (MEMORY_HEADINGS, table[table["pool_bytes"].notna()]),
        (COUNT_HEADINGS, table[table["admissions"].notna()]),
        (SERVING_HEADINGS, table[table["finished_requests"].notna()]),
    ):
        shown = [name for name in columns if rows[name].notna().any()]
        if shown:
            headings = {name: ASKED[name] for name in varying} | {name: columns[name] for name in shown}
            console.print(_rich_table(rows, headings))
            if len(rows) > MOST_ROWS:
                console.print(f"… and {len(rows) - MOST_ROWS:,} more rows in table.csv", highlight=False)
    console.print("* best of its column among rows that did equal work", highlight=False)
    _show_costs(table, console)


def _show_costs(table: pd.DataFrame, console: Console) -> None:
    """Print the cost of paging, if at least one cost has both of its arms."""
    costs = paging_costs(table)
    if costs[list(COSTS)].notna().any(axis=None):
        varying = [name for name in EQUAL_WORK if name in ASKED and costs[name].nunique(dropna=False) > 1]
        console.print(_rich_table(costs, {name: ASKED[name] for name in varying} | COST_HEADINGS))
        for line in missing_arms(costs):
            console.print(line, markup=False, highlight=False, soft_wrap=True)


def _rich_table(table: pd.DataFrame, headings: Mapping[str, str]) -> Table:
    best = {name: _best_rows(table, name) for name in headings if name in MARKED}
    out = Table()
    for name, heading in headings.items():
        out.add_column(
            heading, justify="left" if any(isinstance(value, str) for value in table[name]) else "right", no_wrap=True
        )
    for index, row in table.head(MOST_ROWS).iterrows():
        out.add_row(*[_cell(name, row[name], index in best.get(name, ())) for name in headings])
    return out


def _best_rows(table: pd.DataFrame, name: str) -> set[Any]:
    """Return index labels of the best value within each group of equal work. A single row is not marked."""
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
    """Return a value as text for people."""
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
    """Return one line per row that is not ok, and one for missing rows."""
    lines = []
    for _, row in table[table["status"] != "ok"].iterrows():
        who = row["implementation"] if pd.notna(row["implementation"]) else row["policy"]
        page = f" page_size={row['page_size']}" if pd.notna(row["page_size"]) else ""
        log = f" (log: {row['log']})" if row["status"] in FAILED and pd.notna(row["log"]) else ""
        lines.append(f"{row['status']}: {who}{page}: {row['status_reason']}{log}")
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
    return [f"doubtful: {len(said)} of {len(table)} rows: {said[0]}; {ADVICE[code]}" for code, said in by_code.items()]


def _time_line(table: pd.DataFrame) -> str:
    ran = table[table["measured_s"].fillna(0) > 0]
    if ran.empty:
        return "no point was run"
    return (f"{len(ran)} points run: {ran['measured_s'].sum():.1f} s measuring, "
            f"{ran['harness_s'].mean():.2f} s of harness per point")  # fmt: skip
