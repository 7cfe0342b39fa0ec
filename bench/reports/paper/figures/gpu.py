"""PagedAttention paper, Figures 18a and 18b (small pages): the attention kernel, from rows of a GPU."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from bench.reports.figures.style import MARKERS, FigureSpec, page_size_axis, panel_grid
from bench.reports.paper.figures.rows import experiment_rows

NEAR = 1.1
"""A time within 10 % of the best is among the best, as in Figure 18b's other side."""


def _select(table: pd.DataFrame) -> pd.DataFrame:
    """Return each paged implementation against each contiguous one that decoded the same batch."""
    rows = experiment_rows(table, "paper_fig18a")
    rows = rows[rows["device"].eq("cuda") & rows["decode_us"].notna()]
    if rows.empty:
        return pd.DataFrame()
    context = rows["live_tokens"].astype(int) // rows["admitted_seqs"].astype(int)
    rows = rows.assign(context=context, batch=rows["num_seqs"].astype(int), decode=rows["decode_us"].astype(float))
    keys = ["batch", "context", "batch_digest"]
    medians = rows.groupby([*keys, "implementation", "page_size"], dropna=False)["decode"].median().reset_index()
    paged, contiguous = medians[medians["page_size"].notna()], medians[medians["page_size"].isna()]
    baselines = contiguous.drop(columns="page_size").rename(columns={"implementation": "baseline", "decode": "base"})
    frame = paged.merge(baselines, on=keys)
    return frame.assign(overhead=100 * (frame["decode"] / frame["base"] - 1)).drop(columns="batch_digest")


def _draw(frame: pd.DataFrame) -> Figure:
    panels = list(frame.groupby("batch", sort=True))
    figure, grid = panel_grid(len(panels), width=5.0, height=4.0)
    for axes, (batch, rows) in zip(grid, panels, strict=True):
        for place, ((name, base), line) in enumerate(rows.groupby(["implementation", "baseline"])):
            marker = MARKERS[place % len(MARKERS)]
            axes.plot(line["context"], line["overhead"], marker=marker, label=f"{name} against {base}")
        axes.axhspan(20, 26, color="black", alpha=0.12)
        axes.set_title(f"batch {batch} (band: printed, 20 to 26 %)")
        axes.set_xlabel("context (tokens)")
        axes.legend(fontsize="x-small")
    grid[0].set_ylabel("slower on pages of 16 tokens (%)")
    figure.suptitle("Figure 18a: one decode step on pages (medians of the replicates, no error bars)")
    return figure


def _select_pages(table: pd.DataFrame) -> pd.DataFrame:
    """Return each page size against the fastest one of its implementation."""
    rows = experiment_rows(table, "paper_fig18b_kernel")
    rows = rows[rows["device"].eq("cuda") & rows["decode_us"].notna() & rows["page_size"].notna()]
    if rows.empty:
        return pd.DataFrame()
    rows = rows.assign(pages=rows["page_size"].astype(int), decode=rows["decode_us"].astype(float))
    frame = rows.groupby(["implementation", "pages"])["decode"].median().reset_index()
    over_best = frame["decode"] / frame.groupby("implementation")["decode"].transform("min")
    return frame.assign(over_best=over_best, slower=over_best > NEAR, small=frame["pages"] < 16)


def _draw_pages(frame: pd.DataFrame) -> Figure:
    figure, axes = plt.subplots(figsize=(7.0, 4.2), layout="constrained")
    for place, (name, line) in enumerate(frame.groupby("implementation")):
        axes.plot(line["pages"], line["over_best"], marker=MARKERS[place], label=str(name))
    page_size_axis(axes, frame["pages"])
    axes.axhline(NEAR, color="grey", linestyle=":")
    axes.set_ylabel("decode step, by the fastest page size's")
    axes.set_ylim(bottom=0)
    axes.legend()
    figure.suptitle("Figure 18b, the kernel's side (medians of the replicates, no error bars)")
    return figure


PAPER_FIG18B_KERNEL = FigureSpec(
    name="paper_fig18b_kernel",
    question="PagedAttention, Figure 18b: what do small pages cost the attention kernel?",
    command="python bench/run.py -m experiment=paper_fig18b_kernel device=cuda",
    select=_select_pages,
    draw=_draw_pages,
)

PAPER_FIG18A = FigureSpec(
    name="paper_fig18a",
    question="PagedAttention, Figure 18a: what does paging cost the attention kernel?",
    command="python bench/run.py -m experiment=paper_fig18a device=cuda",
    select=_select,
    draw=_draw,
)
