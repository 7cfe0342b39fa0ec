"""PagedAttention paper, Figures 13, 15, 18b and 19b, by replaying a serving system."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from bench.reports.figures.style import MARKERS, FigureSpec, page_size_axis, panel_grid
from bench.reports.paper.figures.allocation import draw_batches, over_vllm
from bench.reports.paper.figures.rows import (
    bars_with_marks,
    data_name,
    draw_ranges,
    experiment_rows,
    legend_with_printed,
    over_seeds,
    seeds_text,
    with_printed,
)

NEAR = 1.1
"""A latency within 10 % of the best is among the best."""

SAMPLING = {"parallel": "parallel sampling", "beam": "beam search"}


def _select_fig13(table: pd.DataFrame) -> pd.DataFrame:
    rows = experiment_rows(table, "paper_fig13", "paper_fig13_alpaca")
    rows = rows.assign(batch=rows["batched_requests_mean"])
    return with_printed(
        over_vllm(over_seeds(rows, ["dataset", "lengths", "system"], ["batch"])), "paper_fig13", "batch"
    )


def _draw_fig13(frame: pd.DataFrame) -> Figure:
    return draw_batches(frame, "Figure 13 by replay: ShareGPT at 2, Alpaca at 30 requests per second, modelled times")


def _select_fig15(table: pd.DataFrame) -> pd.DataFrame:
    rows = experiment_rows(table, "paper_fig15", "paper_fig15_beam")
    rows = rows.assign(method=rows["sampling"].map(SAMPLING), saved=100 * rows["pages_saved_ratio"].astype(float))
    keys = ["dataset", "lengths", "method", "num_samples"]
    return with_printed(over_seeds(rows, keys, ["saved"]), "paper_fig15", "saved")


def _draw_fig15(frame: pd.DataFrame) -> Figure:
    panels = list(frame.groupby("method", sort=False))
    figure, grid = plt.subplots(1, len(panels), figsize=(5.6 * len(panels), 4.2), squeeze=False, layout="constrained")
    names = pd.Series([data_name(row) for _, row in frame.iterrows()], index=frame.index)
    for axes, (method, rows) in zip(grid.flat, panels, strict=True):
        numbers = rows["num_samples"].astype(str)
        bars_with_marks(axes, rows.assign(name=names, n=numbers), x="n", y="saved", hue="name",
                        order=sorted(set(numbers)), hues=list(dict.fromkeys(names)))  # fmt: skip
        draw_ranges(axes, "paper_fig15", "saved", "left", dataset="ShareGPT", method=method)
        axes.set_title(str(method))
        axes.set_xlabel("sequences per request")
        axes.margins(y=0.15)
    grid[0, 0].set_ylabel("pages saved by sharing (%)")
    legend_with_printed(figure, grid[0, 0], loc="outside lower center", ncols=3)
    figure.suptitle(f"Figure 15: OPT-13B, beams descend by neutral drift\n({seeds_text(frame)})")
    return figure


def _select_fig18b(table: pd.DataFrame) -> pd.DataFrame:
    rows = experiment_rows(table, "paper_fig18b", "paper_fig18b_alpaca")
    latency = rows["normalized_latency_ms_per_token"].astype(float)
    rows = rows.assign(latency=latency, rate=rows["rate_per_s"])
    means = over_seeds(rows, ["dataset", "lengths", "rate", "page_size"], ["latency"])
    best = means.groupby(["dataset", "lengths"])["latency"].transform("min")
    over_best = means["latency"] / best
    pages = means["page_size"].astype(int)
    return means.assign(over_best=over_best, near_best=over_best <= NEAR, slower=over_best > NEAR,
                        middle=pages.between(16, 128), large=pages > 32)  # fmt: skip


def _draw_fig18b(frame: pd.DataFrame) -> Figure:
    figure, axes = plt.subplots(figsize=(8.4, 4.4), layout="constrained")
    for place, (_, rows) in enumerate(frame.groupby(["dataset", "lengths"], sort=False)):
        first = rows.iloc[0]
        label = f"{data_name(first)}, {first['rate']:g} requests per second"
        axes.plot(rows["page_size"].astype(int), rows["latency"], marker=MARKERS[place], label=label)
    page_size_axis(axes, frame["page_size"])
    axes.set_yscale("log")
    axes.set_ylabel("normalized latency (ms / token)")
    axes.legend()
    how = f"modelled: no kernel is slower on small pages here, {seeds_text(frame)}"
    figure.suptitle(f"Figure 18b, the allocation side: large pages leave fewer requests at once\n({how})")
    return figure


def _select_fig19b(table: pd.DataFrame) -> pd.DataFrame:
    rows = experiment_rows(table, "paper_fig19b")
    latency = rows["normalized_latency_ms_per_token"].astype(float)
    rows = rows.assign(latency=latency, rate=rows["rate_per_s"], way=rows["preemption_kind"])
    means = over_seeds(rows, ["dataset", "lengths", "rate", "way", "page_size"], ["latency"])
    wide = means.pivot_table(index=["dataset", "lengths", "page_size"], columns="way", values="latency")
    if {"swap", "recompute"} <= set(wide):
        ratio = (wide["swap"] / wide["recompute"]).rename("swap_over_recompute").reset_index()
        means = means.merge(ratio, on=["dataset", "lengths", "page_size"], how="left")
    return means.assign(middle=means["page_size"].astype(int).between(16, 64))


def _draw_fig19b(frame: pd.DataFrame) -> Figure:
    panels = [rows for _, rows in frame.groupby(["dataset", "lengths"], sort=False)]
    figure, grid = panel_grid(len(panels), width=6.0, height=4.2)
    for axes, rows in zip(grid, panels, strict=True):
        first = rows.iloc[0]
        for place, (way, line) in enumerate(rows.groupby("way", sort=False)):
            axes.plot(line["page_size"].astype(int), line["latency"], marker=MARKERS[place], label=str(way),
                      color=sns.color_palette()[place])  # fmt: skip
        page_size_axis(axes, rows["page_size"])
        axes.set_yscale("log")
        axes.set_title(f"{data_name(first)}, {first['rate']:g} requests per second")
        axes.legend()
    grid[0].set_ylabel("normalized latency (ms / token)")
    figure.suptitle(f"Figure 19b: recomputation and swapping (modelled, {seeds_text(frame)})")
    return figure


def _spec(name: str, question: str, select: object, draw: object) -> FigureSpec:
    return FigureSpec(name=name, question=f"PagedAttention, {question}", select=select, draw=draw,  # type: ignore[arg-type]
                      command=f"python bench/run.py -m experiment={name}")  # fmt: skip


REPLAY_FIGURES = (
    _spec("paper_fig13", "Figure 13: how many requests are in a batch?", _select_fig13, _draw_fig13),
    _spec("paper_fig15", "Figure 15: how many pages does sharing save?", _select_fig15, _draw_fig15),
    _spec("paper_fig18b", "Figure 18b: what do large pages cost end to end?", _select_fig18b, _draw_fig18b),
    _spec("paper_fig19b", "Figure 19b: swap or compute again?", _select_fig19b, _draw_fig19b),
)
"""Figures of this module."""
