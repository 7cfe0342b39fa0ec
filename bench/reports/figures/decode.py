"""Decode latency by page size and implementation."""

from __future__ import annotations

import itertools

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.measure.machine.fitness import DOUBTFUL
from bench.reports.figures.style import MARKERS, FigureSpec, page_size_axis, varying

AXES = ("model", "workload", "trace", "num_seqs", "memory_budget_bytes", "page_layout", "device", "dtype",
        "attention_shape", "seed")  # fmt: skip
"""Other axes of a sweep. Those that vary become panels, so that no marker merges rows of different work."""
HEADROOM = 1.05
"""Height of the y axis by the largest value."""


def _select(table: pd.DataFrame) -> pd.DataFrame:
    rows = table[table["status"].eq("ok") & table["decode_us"].notna()]
    columns = ["implementation", "policy", "page_size", *AXES, "replicate", "batch_digest", "decode_us",
               "decode_us_low", "decode_us_high", "timer", "l2_mode", "fitness"]  # fmt: skip
    return rows[columns].assign(series=_series(rows))


def _series(rows: pd.DataFrame) -> pd.Series:
    """Return the name of the line of each row: the implementation, with the policy if it has rows of several."""
    policies = rows.groupby("implementation")["policy"].nunique()
    several = rows["implementation"].map(policies).gt(1)
    return rows["implementation"].where(~several, rows["implementation"] + ", " + rows["policy"])


def _draw(selection: pd.DataFrame) -> Figure:
    paged = selection[selection["page_size"].notna()]
    axes_that_vary = varying(selection[selection["page_layout"].notna()], *AXES) if len(paged) else []
    panels = list(paged.groupby(axes_that_vary, dropna=False)) if axes_that_vary else [((), selection)]
    width = min(len(panels), 3)
    height = -(-len(panels) // width)
    figure, grid = plt.subplots(
        height, width, figsize=(5.6 * width, 4.2 * height), squeeze=False, sharey=True, layout="constrained"
    )
    for axes, (values, rows) in zip(grid.flat, panels, strict=False):
        _panel(axes, rows, _references(selection, rows))
        axes.set_title(", ".join(f"{name}={value}" for name, value in zip(axes_that_vary, values, strict=True)))
    for axes in grid.flat[len(panels) :]:
        axes.set_visible(False)
    # The panels share their y axis, and a limit stops it from growing: it is set when every panel is drawn.
    grid[0, 0].set_ylim(0, HEADROOM * max(axes.dataLim.ymax for axes in grid.flat[: len(panels)]))
    first = selection.iloc[0]
    shared = "" if {"device", "dtype"} & set(axes_that_vary) else f" ({first['device']}, {first['dtype']})"
    figure.suptitle(
        f"One decode step of one layer{shared}\n"
        f"timer {first['timer']}, {first['l2_mode']} caches, bars: 95 % interval of the median",
        fontsize="medium",
    )
    return figure


def _references(selection: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """Return implementations without pages that did the same work as those of this panel."""
    return selection[selection["page_size"].isna() & selection["batch_digest"].isin(rows["batch_digest"])]


def _panel(axes: Axes, rows: pd.DataFrame, references: pd.DataFrame) -> None:
    names = sorted(set(rows["series"]) | set(references["series"]))
    colours = dict(zip(names, sns.color_palette(n_colors=len(names)), strict=True))
    paged = rows[rows["page_size"].notna()]
    for marker, (name, points) in zip(itertools.cycle(MARKERS), paged.groupby("series"), strict=False):
        medians = points.groupby("page_size")[["decode_us", "decode_us_low", "decode_us_high"]].median().astype(float)
        below = medians["decode_us"] - medians["decode_us_low"]
        above = medians["decode_us_high"] - medians["decode_us"]
        axes.errorbar(
            medians.index.astype(int), medians["decode_us"], yerr=[below, above], marker=marker, capsize=3,
            label=name, color=colours[name],
        )  # fmt: skip
        doubtful = points[points["fitness"].eq(DOUBTFUL)].groupby("page_size")["decode_us"].size()
        places = medians.loc[doubtful.index]
        if len(places):
            axes.plot(
                places.index.astype(int), places["decode_us"], marker=marker, linestyle="none", color=colours[name],
                markerfacecolor="white", zorder=3, label=f"{name}, doubtful",
            )  # fmt: skip
    for name, points in references.groupby("series"):
        median = float(points["decode_us"].median())
        is_doubtful = points["fitness"].eq(DOUBTFUL).any()
        label = f"{name} (no pages{', doubtful' if is_doubtful else ''})"
        axes.axhline(median, linestyle=":" if is_doubtful else "--", label=label, color=colours[name])
    if len(paged):
        page_size_axis(axes, paged["page_size"])
    axes.set_ylabel("decode step (µs)")
    axes.legend()


DECODE_LATENCY = FigureSpec(
    name="decode_latency",
    question="What does a decode step cost, by page size and implementation?",
    command="python bench/run.py -m page_size=4,16,64",
    select=_select,
    draw=_draw,
)
