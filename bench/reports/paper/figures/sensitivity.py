"""PagedAttention paper: sensitivity of Figures 13 and 15b to assumptions (step times, crossing beams)."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from bench.reports.figures.style import MARKERS, FigureSpec
from bench.reports.paper.figures.rows import (
    SYSTEMS,
    data_name,
    draw_ranges,
    experiment_rows,
    legend_with_printed,
    mark_printed,
    with_printed,
)


def _select_steps(table: pd.DataFrame) -> pd.DataFrame:
    rows = experiment_rows(table, "paper_fig13_steps", "paper_fig13_steps_alpaca")
    frame = rows[["dataset", "lengths", "system", "rate_per_s"]].assign(
        slowdown=rows["slowdown_ratio"].astype(float), batch=rows["batched_requests_mean"].astype(float)
    )
    return with_printed(frame.sort_values("slowdown", kind="stable"), "paper_fig13", "batch")


def _draw_steps(frame: pd.DataFrame) -> Figure:
    panels = list(frame.groupby(["dataset", "lengths"], sort=False))
    figure, grid = plt.subplots(1, len(panels), figsize=(5.4 * len(panels), 4.6), squeeze=False, layout="constrained")
    for axes, (_, rows) in zip(grid.flat, panels, strict=True):
        for place, name in enumerate(SYSTEMS.values()):
            line = rows[rows["system"].eq(name)]
            colour = sns.color_palette()[place]
            axes.plot(line["slowdown"], line["batch"], marker=MARKERS[place], label=name, color=colour)
            if line["printed"].notna().any():
                axes.axhline(line["printed"].iloc[0], color=colour, linestyle="--", linewidth=1)
                mark_printed(axes, [frame["slowdown"].max()], line["printed"].head(1))
        axes.set_title(f"{data_name(rows.iloc[0])}, {rows['rate_per_s'].iloc[0]:g} requests per second")
        axes.set_xlabel("step time / the roofline's")
        axes.set_ylim(bottom=0)
    grid[0, 0].set_ylabel("requests in a batch, mean over time")
    legend_with_printed(figure, grid[0, 0], loc="outside lower center", ncols=5)
    figure.suptitle("Figure 13 if every step took longer (modelled, one seed, no error bars, dashed: printed)")
    return figure


def _select_turnover(table: pd.DataFrame) -> pd.DataFrame:
    rows = experiment_rows(table, "paper_fig15_turnover")
    frame = rows[["dataset", "lengths", "num_samples"]].assign(
        method="beam search",
        turnover=rows["beam_turnover_ratio"].astype(float),
        saved=100 * rows["pages_saved_ratio"].astype(float),
    )
    return with_printed(frame.sort_values("turnover", kind="stable"), "paper_fig15", "saved")


def _draw_turnover(frame: pd.DataFrame) -> Figure:
    panels = list(frame.groupby(["dataset", "lengths"], sort=False))
    figure, grid = plt.subplots(
        1, len(panels), figsize=(5.4 * len(panels), 4.6), squeeze=False, sharey=True, layout="constrained"
    )
    for axes, (_, rows) in zip(grid.flat, panels, strict=True):
        for place, (number, line) in enumerate(rows.groupby("num_samples", sort=True)):
            colour = sns.color_palette()[place]
            axes.plot(line["turnover"], line["saved"], marker=MARKERS[place], label=f"width {number}", color=colour)
            if line["printed"].notna().any():
                axes.axhline(line["printed"].iloc[0], color=colour, linestyle="--", linewidth=1)
                mark_printed(axes, [frame["turnover"].max()], line["printed"].head(1))
        draw_ranges(axes, "paper_fig15", "saved", "right", dataset=rows["dataset"].iloc[0], method="beam search")
        axes.set_xscale("log")
        axes.set_xticks(sorted(set(rows["turnover"])), [f"{value:g}" for value in sorted(set(rows["turnover"]))])
        axes.minorticks_off()
        axes.set_title(data_name(rows.iloc[0]))
        axes.set_xlabel("probability that a beam's parent is drawn anew")
        axes.set_ylim(0, 100)
    grid[0, 0].set_ylabel("pages saved by sharing (%)")
    legend_with_printed(figure, grid[0, 0], loc="outside lower center", ncols=4)
    figure.suptitle("Figure 15b if beams crossed less often (modelled, one seed, no error bars, dashed: printed)")
    return figure


SENSITIVITY_FIGURES = (
    FigureSpec(
        name="paper_fig13_steps",
        question="PagedAttention, Figure 13: what if every step took longer?",
        command="python bench/run.py -m experiment=paper_fig13_steps",
        select=_select_steps,
        draw=_draw_steps,
    ),
    FigureSpec(
        name="paper_fig15_turnover",
        question="PagedAttention, Figure 15b: what if beams crossed less often?",
        command="python bench/run.py -m experiment=paper_fig15_turnover",
        select=_select_turnover,
        draw=_draw_turnover,
    ),
)
"""Figures of this module."""
