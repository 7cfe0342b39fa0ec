"""What all figures share: their look, and how one is written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # files only; a display is never needed

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

MARKERS = ("o", "s", "D", "^", "v", "P", "X")


@dataclass(frozen=True, kw_only=True)
class FigureSpec:
    """One figure: what it answers, which command makes its rows, how it is drawn.

    Attributes:
        name: file name without ending.
        question: what a reader learns.
        command: makes the rows that it needs.
        select: the tidy frame behind the figure; empty where the table has no such rows.
        draw: draws that frame.
    """

    name: str
    question: str
    command: str
    select: Callable[[pd.DataFrame], pd.DataFrame]
    draw: Callable[[pd.DataFrame], Figure]


def save(spec: FigureSpec, selection: pd.DataFrame, folder: Path) -> Path:
    """Write ``<name>.csv``, ``.svg`` and ``.png``; returns the PNG."""
    sns.set_theme(context="notebook", style="whitegrid", palette="colorblind")
    selection.to_csv(folder / f"{spec.name}.csv", index=False)
    figure = spec.draw(selection)
    for ending in ("svg", "png"):
        figure.savefig(folder / f"{spec.name}.{ending}", dpi=150, bbox_inches="tight")
    plt.close(figure)
    return folder / f"{spec.name}.png"


def page_size_axis(axes: Axes, page_sizes: pd.Series) -> None:
    """Page sizes are powers of two as a rule: a logarithmic axis with every value named."""
    values = sorted(page_sizes.dropna().astype(int).unique())
    axes.set_xscale("log", base=2)
    axes.set_xticks(values, [str(value) for value in values])
    axes.minorticks_off()
    axes.set_xlabel("page size (tokens)")


def varying(table: pd.DataFrame, *names: str) -> list[str]:
    """Those of the columns that take more than one value here."""
    return [name for name in names if table[name].nunique(dropna=False) > 1]
