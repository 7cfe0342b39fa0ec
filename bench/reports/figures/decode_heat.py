"""Figure of the share of memory bandwidth that a decode step reaches, by batch and length."""

from __future__ import annotations

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from bench.reports.figures.style import FigureSpec, panel_grid

KEYS = ["implementation", "page_size", "num_seqs", "length_tokens"]


def _select(table: pd.DataFrame) -> pd.DataFrame:
    """Return rows of equal sequence lengths where batch and length vary, with the median of replicates."""
    rows = table[table["status"].eq("ok") & table["ceiling_ratio"].notna() & table["workload"].eq("fixed")]
    rows = rows[rows["refused_seqs"].eq(0)]
    rows = rows.assign(length_tokens=(rows["live_tokens"] / rows["admitted_seqs"]).astype("Int64"))
    if rows["num_seqs"].nunique() < 2 or rows["length_tokens"].nunique() < 2:
        return rows.iloc[:0]
    medians = rows.groupby([*KEYS, "device", "dtype", "l2_mode"], dropna=False)["ceiling_ratio"].median()
    return medians.reset_index()


def _draw(selection: pd.DataFrame) -> Figure:
    arms = list(selection.groupby(["implementation", "page_size"], dropna=False))
    # On a CPU a batch that fits its caches reads faster than memory does.
    highest = max(1.0, float(selection["ceiling_ratio"].max()))
    figure, panels = panel_grid(len(arms), width=4.4, height=3.6, columns=3)
    for axes, (_, rows) in zip(panels, arms, strict=True):
        name, page_size = rows["implementation"].iloc[0], rows["page_size"].iloc[0]
        grid = rows.pivot_table(index="num_seqs", columns="length_tokens", values="ceiling_ratio").astype(float)
        sns.heatmap(
            grid.sort_index(ascending=False), ax=axes, annot=True, fmt=".0%", vmin=0, vmax=highest, cbar=False,
            cmap="viridis", linewidths=1,
        )  # fmt: skip
        pages = "no pages" if pd.isna(page_size) else f"pages of {page_size}"
        axes.set_title(f"{name}, {pages}", fontsize="medium")
        axes.set_xlabel("tokens per sequence")
        axes.set_ylabel("sequences")
        axes.tick_params(axis="y", rotation=0)
    first = selection.iloc[0]
    figure.suptitle(
        f"Read bandwidth of a decode step / measured ceiling ({first['device']}, {first['dtype']}, "
        f"{first['l2_mode']} caches)",
        fontsize="medium",
    )
    return figure


DECODE_HEAT = FigureSpec(
    name="decode_heat",
    question="At which batches and lengths does a decode step reach the memory's bandwidth?",
    command="python bench/run.py -m experiment=gpu_batch_length device=cuda",
    select=_select,
    draw=_draw,
)
