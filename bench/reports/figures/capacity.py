"""Figures of capacity: sequences that fit, by budget and policy, and a check of the bytes."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from bench.config.numbers import size_text
from bench.reports.figures.memory import POLICY_ORDER, axis_text
from bench.reports.figures.style import MARKERS, FigureSpec, label_bars, move_legend_outside, panel_grid, varying

AXES = ("model", "workload", "held", "page_size", "arena")
LEVELS = {
    "pool_bytes": "the policy's pool",
    "storage_bytes": "K and V tensors",
    "torch_allocated_peak_bytes": "torch, allocated peak",
    "process_memory_rise_bytes": "process, above idle",
    "device_memory_bytes": "device, above idle",
}


def _select_capacity(table: pd.DataFrame) -> pd.DataFrame:
    rows = table[table["scenario"].eq("capacity") & table["status"].eq("ok")]
    counted = rows.drop_duplicates(["policy", *AXES, "memory_budget_bytes", "seed", "batch_digest"])
    columns = ["policy", *AXES, "memory_budget_bytes", "seed", "admitted_seqs", "live_bytes", "pool_bytes"]
    return counted[columns].assign(budget_gib=counted["memory_budget_bytes"].astype(float) / 2**30)


def _draw_capacity(selection: pd.DataFrame) -> Figure:
    names = varying(selection, "model", "workload", "held")
    groups = selection.groupby(names, sort=False) if names else [((), selection)]
    panels = [(", ".join(map(axis_text, names, values)), rows) for values, rows in groups]
    figure, grid = panel_grid(len(panels), width=5.4, height=4.4)
    pages, arenas = selection["page_size"].nunique() > 1, selection["arena"].nunique() > 1
    label = selection["policy"].astype(str)
    if pages:
        sizes = selection["page_size"].astype(object)  # pandas 2.2 maps Int64 with a null as floats
        label += sizes.map(lambda size: f", pages of {size}", na_action="ignore").fillna("")
    if arenas:
        label += selection["arena"].map(lambda arena: f", {arena}", na_action="ignore").fillna("")
    order = sorted(label.unique(), key=lambda name: (POLICY_ORDER.index(name.split(",")[0]), name))
    for axes, (title, rows) in zip(grid, panels, strict=True):
        sns.lineplot(
            rows.assign(label=label.loc[rows.index], admitted_seqs=rows["admitted_seqs"].astype(float)),
            x="budget_gib", y="admitted_seqs", hue="label", style="label", hue_order=order, style_order=order,
            markers=list(MARKERS[: len(order)]), dashes=False, errorbar=("pi", 100), legend="full", ax=axes,
        )  # fmt: skip
        ticks = sorted(rows["budget_gib"].unique())
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_xticks(ticks, [size_text(2**30 * tick) for tick in ticks])
        axes.yaxis.set_major_formatter("{x:,.0f}")
        axes.minorticks_off()
        axes.set_xlabel("memory budget")
        axes.set_ylabel("sequences at once")
        axes.set_title(title, fontsize="small")
    move_legend_outside(figure, grid)
    seeds = selection["seed"].nunique()
    over = f" (mean of {seeds} seeds, bands cover all seeds)" if seeds > 1 else ""
    figure.suptitle(f"Sequences that fit, admitted until the first refusal{over}", fontsize="medium")
    return figure


def _select_levels(table: pd.DataFrame) -> pd.DataFrame:
    rows = table[table["scenario"].eq("capacity") & table["status"].eq("ok") & table["storage_bytes"].notna()]
    asked = ["implementation", "policy", "memory_budget_bytes", "device", "replicate", "seed"]
    lines = rows.melt(asked, list(LEVELS), "level", "bytes").dropna(subset="bytes")
    return lines.assign(level=lines["level"].map(LEVELS), mib=lines["bytes"].astype(float) / 2**20)


def _draw_levels(selection: pd.DataFrame) -> Figure:
    bars = selection.assign(
        who=selection["implementation"].astype(str)
        + "\n"
        + selection["memory_budget_bytes"].map(lambda size: axis_text("memory_budget_bytes", size))
    )
    figure, axes = plt.subplots(figsize=(max(7.0, 1.5 * bars["who"].nunique() + 2), 4.4), layout="constrained")
    present = [level for level in LEVELS.values() if level in set(bars["level"])]
    sns.barplot(bars, x="who", y="mib", hue="level", hue_order=present, errorbar=("pi", 100), ax=axes)
    label_bars(axes, fmt="%.1f", fontsize="xx-small", rotation=90, padding=3)
    axes.set_ylim(top=1.15 * bars["mib"].max())
    axes.set_xlabel("")
    axes.set_ylabel("MiB, all layers")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    figure.suptitle(f"The same pool on every level ({', '.join(sorted(bars['device'].unique()))})", fontsize="medium")
    return figure


CAPACITY = FigureSpec(
    name="capacity",
    question="How many sequences fit, by budget and policy?",
    command="python bench/run.py -m experiment=capacity",
    select=_select_capacity,
    draw=_draw_capacity,
)

MEMORY_LEVELS = FigureSpec(
    name="memory_levels",
    question="Do the bytes of the policy equal those of the machine?",
    command="python bench/run.py -m experiment=capacity_real",
    select=_select_levels,
    draw=_draw_levels,
)
