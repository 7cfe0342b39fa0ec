"""Where the pool's memory goes, and how many sequences it admits."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from bench.figures.style import FigureSpec, varying

PARTS = {
    "live_bytes": "live",
    "reserved_bytes": "reserved",
    "internal_fragmentation_bytes": "internal fragmentation",
    "external_fragmentation_bytes": "external fragmentation",
    "cached_bytes": "cached",
    "free_bytes": "free",
}
"""The six parts of a pool, in the order in which they are stacked."""

AXES = ("model", "workload", "num_seqs", "memory_budget_bytes", "page_layout", "page_size")


def _one_per_question(table: pd.DataFrame) -> pd.DataFrame:
    """Bookkeeping is exact and the same in every replicate and implementation of a policy."""
    rows = table[table["pool_bytes"].notna()]
    return rows.drop_duplicates(["policy", *AXES, "batch_digest"])


def _label(row: pd.Series, axes: list[str]) -> str:
    values = [f"{row[name] / 2**20:g} MiB" if name.endswith("_bytes") else f"{name} {row[name]}"
              for name in axes if pd.notna(row[name])]  # fmt: skip
    return "\n".join([str(row["policy"]), *values])


def _select_split(table: pd.DataFrame) -> pd.DataFrame:
    rows = _one_per_question(table)
    columns = ["policy", *AXES, "admitted_seqs", "pool_bytes", *PARTS]
    return rows[columns].assign(label=[_label(row, varying(rows, *AXES)) for _, row in rows.iterrows()])


def _draw_split(selection: pd.DataFrame) -> Figure:
    shares = selection[list(PARTS)].astype(float).div(selection["pool_bytes"].astype(float), axis=0) * 100
    figure, axes = plt.subplots(figsize=(max(6.4, 1.3 * len(selection) + 2.5), 4.6), layout="constrained")
    bottom = pd.Series(0.0, index=selection.index)
    positions = range(len(selection))
    for (name, part), colour in zip(PARTS.items(), sns.color_palette(n_colors=len(PARTS)), strict=True):
        axes.bar(positions, shares[name], bottom=bottom, label=part, color=colour, width=0.7)
        bottom += shares[name]
    for position, (_, row) in zip(positions, selection.iterrows(), strict=True):
        text = f"{row['pool_bytes'] / 2**20:,.0f} MiB\n{row['admitted_seqs']} seqs"
        axes.annotate(text, (position, 101), ha="center", va="bottom", fontsize="small")
    axes.set_xticks(list(positions), list(selection["label"]), fontsize="small")
    axes.set_ylim(0, 116)
    axes.set_ylabel("share of the pool (%)")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    axes.set_title("Memory split of the pool over all layers (exact)", fontsize="medium")
    return figure


def _select_admitted(table: pd.DataFrame) -> pd.DataFrame:
    rows = _one_per_question(table)
    return rows[["policy", *AXES, "admitted_seqs", "refused_seqs"]].assign(
        label=[_label(row, varying(rows, *AXES)) for _, row in rows.iterrows()]
    )


def _draw_admitted(selection: pd.DataFrame) -> Figure:
    figure, axes = plt.subplots(figsize=(max(6.4, 1.3 * len(selection) + 2.5), 4.2), layout="constrained")
    positions = range(len(selection))
    admitted, refused = selection["admitted_seqs"].astype(int), selection["refused_seqs"].astype(int)
    bars = axes.bar(positions, admitted, label="admitted", width=0.7)
    axes.bar(positions, refused, bottom=admitted, label="refused", width=0.7, color="lightgrey")
    axes.bar_label(bars, label_type="center", color="white")
    axes.set_xticks(list(positions), list(selection["label"]), fontsize="small")
    axes.set_ylabel("sequences")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    axes.set_title("Sequences admitted before the first refusal (exact)", fontsize="medium")
    return figure


MEMORY_SPLIT = FigureSpec(
    name="memory_split",
    question="Where does the memory of the pool go?",
    command="python bench/run.py -m page_size=4,16,64",
    select=_select_split,
    draw=_draw_split,
)

ADMITTED = FigureSpec(
    name="admitted_seqs",
    question="How many sequences does the budget admit?",
    command="python bench/run.py -m experiment=memory_budget",
    select=_select_admitted,
    draw=_draw_admitted,
)
