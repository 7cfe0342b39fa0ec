"""Figure beyond the paper: hit rate of a prefix cache against its size."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from bench.reports.figures.style import MARKERS, FigureSpec
from bench.reports.paper.figures.rows import legend_with_printed, with_printed


def _select(table: pd.DataFrame) -> pd.DataFrame:
    rows = table[table["scenario"].eq("prefix_cache") & table["status"].eq("ok")].drop_duplicates("key")
    if rows.empty:
        return pd.DataFrame()
    frame = pd.DataFrame(
        {"trace": rows["trace"],
         "page_size": rows["page_size"].astype(int),
         "cache_pages": rows["cache_pages"].astype(int),
         "endless": rows["cache_pages"].ge(rows["looked_up_pages"]).astype(bool),
         "percent": 100 * rows["prefix_hit_ratio"].astype(float)}
    )  # fmt: skip
    if frame["endless"].all():  # no size to draw a curve over
        return pd.DataFrame()
    return with_printed(frame, "mooncake_hits", "percent")


def _draw(frame: pd.DataFrame) -> Figure:
    figure, axes = plt.subplots(figsize=(8.2, 4.6), layout="constrained")
    for place, (trace, rows) in enumerate(frame.groupby("trace", sort=False)):
        colour = sns.color_palette()[place]
        line = rows[~rows["endless"]].sort_values("cache_pages")
        axes.plot(line["cache_pages"], line["percent"], marker=MARKERS[place], color=colour, label=str(trace))
        endless = rows[rows["endless"]]
        for _, row in endless.iterrows():
            axes.axhline(row["percent"], color=colour, linestyle="--", linewidth=1)
            text = f"endless cache: {row['percent']:.2f} % (printed: {row['printed']:g} %)"
            axes.annotate(text, (0.02, row["percent"]), xycoords=("axes fraction", "data"), xytext=(0, 4),
                          textcoords="offset points", fontsize="small", color=colour)  # fmt: skip
            axes.plot([frame["cache_pages"].max()], [row["printed"]], marker="D", color=colour, markerfacecolor="none")
    axes.set_xscale("log")
    axes.set_ylim(bottom=0)
    axes.set_xlabel(f"cache size (pages of {frame['page_size'].iloc[0]} tokens)")
    axes.set_ylabel("pages found in the cache (%)")
    legend_with_printed(axes, axes, loc="lower right")
    figure.suptitle("Hit rate of a least-recently-used cache of prefixes (exact, no error bars)")
    return figure


MOONCAKE_HITS = FigureSpec(
    name="mooncake_hits",
    question="How large must a cache of prefixes be?",
    command="python bench/run.py -m experiment=mooncake_hits workload.path=traces/conversation_trace.jsonl",
    select=_select,
    draw=_draw,
)
