"""Shared parts of all figures: their look, and how one is written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")  # writes files only, without a display

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.container import BarContainer
from matplotlib.figure import Figure

MARKERS = ("o", "s", "D", "^", "v", "P", "X")
LOOK = {"figure.titlesize": "medium", "axes.titlesize": "small", "legend.fontsize": "small"}
"""Font sizes of every figure. A title of two lines fits."""


@dataclass(frozen=True, kw_only=True)
class FigureSpec:
    """One figure: its question, the command that makes its rows, and how it is drawn.

    Attributes:
        name: file name without ending.
        question: the question that the figure answers.
        command: command that makes its rows.
        select: returns the tidy frame behind the figure, empty if the table has no such rows.
        draw: draws that frame.
    """

    name: str
    question: str
    command: str
    select: Callable[[pd.DataFrame], pd.DataFrame]
    draw: Callable[[pd.DataFrame], Figure]


def save(spec: FigureSpec, selection: pd.DataFrame, folder: Path) -> Path:
    """Write ``<name>.csv``, ``.svg`` and ``.png``. Return the path of the PNG."""
    sns.set_theme(context="notebook", style="whitegrid", palette="colorblind", rc=LOOK)
    selection.to_csv(folder / f"{spec.name}.csv", index=False)
    figure = spec.draw(selection)
    for ending in ("svg", "png"):
        figure.savefig(folder / f"{spec.name}.{ending}", dpi=150, bbox_inches="tight")
    plt.close(figure)
    return folder / f"{spec.name}.png"


def page_size_axis(axes: Axes, page_sizes: pd.Series) -> None:
    """Make a logarithmic axis with a label for every page size, because most are powers of two."""
    values = sorted(page_sizes.dropna().astype(int).unique())
    axes.set_xscale("log", base=2)
    axes.set_xticks(values, [str(value) for value in values])
    axes.minorticks_off()
    axes.set_xlabel("page size (tokens)")


def varying(table: pd.DataFrame, *names: str) -> list[str]:
    """Return the columns that take more than one value. Null, where a column has no effect, is not a value."""
    return [name for name in names if table[name].nunique() > 1]


def panel_grid(number: int, *, width: float, height: float, columns: int = 4) -> tuple[Figure, list[Axes]]:
    """Return a figure with ``number`` panels of ``width`` × ``height`` inches that share their y axis."""
    across = min(number, columns)
    down = -(-number // across)
    figure, grid = plt.subplots(
        down,
        across,
        figsize=(max(width * across, 6.4), height * down + 0.8),
        squeeze=False,
        sharey=True,
        layout="constrained",
    )
    panels = list(grid.flat)
    for axes in panels[number:]:
        axes.set_visible(False)
    return figure, panels[:number]


def move_legend_outside(figure: Figure, panels: list[Axes]) -> None:
    """Put the legend of the first panel at the right of the figure, for all panels."""
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right center")
    for axes in panels:
        if (own := axes.get_legend()) is not None:
            own.remove()


def label_bars(axes: Axes, **how: Any) -> None:
    """Write the value above every bar. ``how`` goes to ``Axes.bar_label``."""
    for container in axes.containers:
        if isinstance(container, BarContainer):
            axes.bar_label(container, **how)
