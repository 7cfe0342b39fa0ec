"""PagedAttention paper, Figures 2, 13 (bars of the baselines) and 18b (large pages), by allocation alone."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from bench.reports.figures.style import MARKERS, FigureSpec, page_size_axis
from bench.reports.paper.figures.rows import (
    LENGTHS,
    SYSTEMS,
    bars_with_marks,
    data_name,
    experiment_rows,
    legend_with_printed,
    over_seeds,
    seeds_text,
    with_printed,
)


def _select_fig02(table: pd.DataFrame) -> pd.DataFrame:
    rows = experiment_rows(table, "paper_fig02")
    pool = rows["pool_bytes"].astype(float)
    share = {
        name: 100 * rows[f"{part}_bytes"].astype(float) / pool
        for part, name in (("live", "tokens"), ("reserved", "reservation"), ("rounding", "rounding"), ("free", "free"),
                           ("internal_fragmentation", "internal"), ("external_fragmentation", "external"))
    }  # fmt: skip
    parts = {
        "tokens": share["tokens"],
        "reservation": share["reservation"],
        "internal fragmentation": share["internal"] - share["rounding"],
        "external fragmentation and others": share["external"] + share["rounding"] + share["free"],
    }
    keys = ["dataset", "lengths", "system", "seed"]
    lines = pd.concat([rows[keys].assign(part=part, share=values) for part, values in parts.items()])
    means = over_seeds(lines, ["dataset", "lengths", "system", "part"], ["share"])
    means = means.assign(waste=100 - means["share"], baseline=means["system"].ne(SYSTEMS["paged"]))
    return with_printed(means, "paper_fig02", "share")


def _draw_fig02(frame: pd.DataFrame) -> Figure:
    panels = list(frame.groupby("lengths", sort=False))
    figure, grid = plt.subplots(len(panels), 1, figsize=(10.5, 3.9 * len(panels)), squeeze=False, layout="constrained")
    parts = list(dict.fromkeys(frame["part"]))
    for axes, (_, rows) in zip(grid.flat, panels, strict=True):
        order = [name for name in SYSTEMS.values() if name in set(rows["system"])]
        bars_with_marks(axes, rows, x="system", y="share", hue="part", order=order, hues=parts, fmt="%.1f")
        axes.set_ylim(0, 112)
        axes.set_ylabel("share of the KV memory (%)")
        axes.set_title(data_name(rows.iloc[0]))
    legend_with_printed(figure, grid[0, 0], loc="outside lower center", ncols=3)
    figure.suptitle(f"Figure 2: OPT-13B's 12 GiB while requests always wait ({seeds_text(frame)})")
    return figure


def _select_fig13(table: pd.DataFrame) -> pd.DataFrame:
    rows = experiment_rows(table, "paper_fig02", "paper_fig13_queue").assign(batch=lambda rows: rows["running_mean"])
    means = over_seeds(rows, ["dataset", "lengths", "system"], ["batch"])
    return with_printed(over_vllm(means), "paper_fig13_queue", "batch")


def over_vllm(means: pd.DataFrame) -> pd.DataFrame:
    """Add the ratio of vLLM's batch to that of each system, on the same lengths."""
    keys = ["dataset", "lengths"]
    vllm = means[means["system"].eq(SYSTEMS["paged"])].set_index(keys)["batch"].rename("vllm_batch")
    joined = means.join(vllm, on=keys)
    return joined.assign(vllm_over=joined["vllm_batch"] / joined["batch"]).drop(columns="vllm_batch")


def draw_batches(frame: pd.DataFrame, title: str) -> Figure:
    """Draw mean batch sizes, a panel for each data set, with printed numbers as marks."""
    panels = list(frame.groupby("dataset", sort=False))
    figure, grid = plt.subplots(1, len(panels), figsize=(5.4 * len(panels), 4.4), squeeze=False, layout="constrained")
    for axes, (dataset, rows) in zip(grid.flat, panels, strict=True):
        order = [name for name in SYSTEMS.values() if name in set(rows["system"])]
        named = rows.assign(source=[LENGTHS.get(name, name) for name in rows["lengths"]])
        bars_with_marks(axes, named, x="system", y="batch", hue="source", order=order,
                        hues=list(dict.fromkeys(named["source"])))  # fmt: skip
        axes.set_title(str(dataset))
        axes.margins(y=0.12)
        legend_with_printed(axes, axes, loc="upper left")
    grid[0, 0].set_ylabel("requests in a batch, mean over time")
    figure.suptitle(f"{title}\n({seeds_text(frame)})")
    return figure


def _draw_fig13(frame: pd.DataFrame) -> Figure:
    return draw_batches(frame, "Figure 13 by memory alone, requests always waiting")


def _select_fig18b(table: pd.DataFrame) -> pd.DataFrame:
    rows = experiment_rows(table, "paper_fig18b_pages")
    waste = 100 * rows["internal_fragmentation_bytes"].astype(float) / rows["pool_bytes"].astype(float)
    held = 100 * (rows["internal_fragmentation_bytes"] + rows["reserved_bytes"]).astype(float)
    rows = rows.assign(batch=rows["running_mean"], waste=waste, unused=held / rows["pool_bytes"].astype(float))
    means = over_seeds(rows, ["dataset", "lengths", "page_size"], ["batch", "waste", "unused"])
    best = means.groupby(["dataset", "lengths"])["batch"].transform("max")
    return means.assign(batch_ratio=means["batch"] / best)


def _draw_fig18b(frame: pd.DataFrame) -> Figure:
    figure, grid = plt.subplots(1, 2, figsize=(11.5, 4.3), layout="constrained")
    labels = {
        "batch_ratio": "requests at once / most of any page size",
        "unused": "slots held but empty (% of the pool)",
    }
    for axes, (column, label) in zip(grid, labels.items(), strict=True):
        for place, ((dataset, lengths), rows) in enumerate(frame.groupby(["dataset", "lengths"], sort=False)):
            colour, label_of = sns.color_palette()[place], data_name({"dataset": dataset, "lengths": lengths})
            axes.plot(rows["page_size"].astype(int), rows[column], marker=MARKERS[place], label=label_of, color=colour)
        page_size_axis(axes, frame["page_size"])
        axes.set_ylabel(label)
        axes.set_ylim(bottom=0)
    grid[0].legend()
    figure.suptitle(f"Figure 18b, the allocation side: what page size costs in memory ({seeds_text(frame)})")
    return figure


PAPER_FIG02 = FigureSpec(
    name="paper_fig02",
    question="PagedAttention, Figure 2: how is the KV memory used?",
    command="python bench/run.py -m experiment=paper_fig02",
    select=_select_fig02,
    draw=_draw_fig02,
)
PAPER_FIG13_QUEUE = FigureSpec(
    name="paper_fig13_queue",
    question="PagedAttention, Figure 13: how many requests fit at once, by memory alone?",
    command="python bench/run.py -m experiment=paper_fig13_queue",
    select=_select_fig13,
    draw=_draw_fig13,
)
PAPER_FIG18B_PAGES = FigureSpec(
    name="paper_fig18b_pages",
    question="PagedAttention, Figure 18b: what do larger pages cost in memory?",
    command="python bench/run.py -m experiment=paper_fig18b_pages",
    select=_select_fig18b,
    draw=_draw_fig18b,
)
