"""Draw a comparison as a forest plot: ratios with their intervals, and the floor."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from bench.compare.output.words import change
from bench.reports.figures.style import FigureSpec

MOST_ROWS = 40
"""Most rows of one figure. They are the worst, and the title counts the rest."""

WIDE = 8
"""From this ratio of both ends on, ticks are at powers of ten."""

EVEN = 1.4
"""Up to this ratio of both ends a logarithmic axis is straight enough for even steps."""

ROUND = (0.125, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1, 1.1, 1.25, 1.5, 1.75, 2, 2.5, 3, 4, 5, 6, 8)
"""Ticks in between."""

DRAWN_VERDICTS = ("regressed", "inconclusive", "insufficient", "same", "improved")


def _select(verdicts: pd.DataFrame) -> pd.DataFrame:
    """Return verdicts with an interval, worst first."""
    columns = ["point", "metric", "verdict", "ratio", "ratio_low", "ratio_high", "floor", "pairs"]
    return verdicts.loc[verdicts["ratio_low"].notna(), columns]


def _draw(selection: pd.DataFrame) -> Figure:
    rows = selection.head(MOST_ROWS)
    panels = list(rows.groupby("metric", sort=False))
    heights = [len(group) for _, group in panels]
    figure, grid = plt.subplots(
        len(panels), 1, figsize=(11, 0.34 * sum(heights) + 0.75 * len(panels) + 1.2), squeeze=False, sharex=True,
        gridspec_kw={"height_ratios": heights}, layout="constrained",
    )  # fmt: skip
    colours = dict(zip(DRAWN_VERDICTS, [sns.color_palette()[place] for place in (3, 1, 7, 0, 2)], strict=True))
    for axes, (metric, group) in zip(grid.flat, panels, strict=True):
        _panel(axes, group, colours)
        axes.set_title(str(metric), loc="left", fontsize="medium")
    _ratio_axis(grid.flat[-1], rows)
    present = [verdict for verdict in DRAWN_VERDICTS if verdict in set(rows["verdict"])]
    handles: list[Artist] = [Line2D([], [], color=colours[v], marker="o", label=v) for v in present]
    handles.append(
        Patch(
            color="0.85",
            label=f"floor (± {100 * rows['floor'].min():.3g} %)" if rows["floor"].nunique() == 1 else "floor",
        )
    )
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    pairs = " to ".join(str(number) for number in sorted({rows["pairs"].min(), rows["pairs"].max()}))
    cut = f"\nthe worst {len(rows)} of {len(selection)} rows" if len(selection) > len(rows) else ""
    figure.suptitle(f"95 % interval of the ratio over {pairs} pairs of runs{cut}", fontsize="medium")
    return figure


def _ratio_axis(axes: Axes, rows: pd.DataFrame) -> None:
    """Make the axis logarithmic, because a half is as far from 1 as a double, with few plain numbers."""
    low, high = float(rows["ratio_low"].min()), float(rows["ratio_high"].max())
    axes.set_xscale("log")
    if high / low < WIDE:
        # Steps of a log axis, or even ones where so little is shown that a log axis is straight.
        even = high / low < EVEN
        axes.xaxis.set_major_locator(MaxNLocator(6) if even else FixedLocator(ROUND))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda ratio, _: f"{ratio:.4g}"))
    axes.set_xlabel("candidate / base")


def _panel(axes: Axes, rows: pd.DataFrame, colours: dict[str, tuple[float, float, float]]) -> None:
    floor = float(rows["floor"].iloc[0])
    axes.axvspan(1 / (1 + floor), 1 + floor, color="0.85", zorder=0)
    axes.axvline(1, color="0.5", linewidth=1, zorder=1)
    lows, middles, highs = (rows[name].to_numpy(float) for name in ("ratio_low", "ratio", "ratio_high"))
    for place, (low, middle, high, verdict) in enumerate(zip(lows, middles, highs, rows["verdict"], strict=True)):
        # A median can equal an end of its interval.
        reach = [[max(middle - low, 0.0)], [max(high - middle, 0.0)]]
        axes.errorbar(middle, place, xerr=reach, fmt="o", capsize=3, color=colours[verdict], zorder=2)
    axes.set_yticks(range(len(rows)), list(rows["point"]))
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    for place, (low, middle, high) in enumerate(zip(lows, middles, highs, strict=True)):
        text = f"{change(middle)}  [{change(low)}, {change(high)}]"
        axes.annotate(text, (1.02, place), xycoords=("axes fraction", "data"), va="center", fontsize="small")


FOREST = FigureSpec(
    name="forest",
    question="Which points changed, by how much, and how sure is that?",
    command="python scripts/compare_runs.py BASE CANDIDATE --out FOLDER",
    select=_select,
    draw=_draw,
)
