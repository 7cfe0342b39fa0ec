"""PagedAttention paper, Figure 18a: what the attention kernel costs on pages; drawn where a GPU has measured it."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from bench.figures.paper_rows import asked_for
from bench.figures.style import MARKERS, FigureSpec, panel_grid

BASELINE = "contiguous"


def _select(table: pd.DataFrame) -> pd.DataFrame:
    rows = asked_for(table, "paper_fig18a")
    rows = rows[rows["device"].eq("cuda") & rows["decode_us"].notna()]
    if rows.empty:
        return pd.DataFrame()
    rows = rows.assign(context=rows["live_tokens"].astype(int) // rows["admitted_seqs"].astype(int),
                       decode=rows["decode_us"].astype(float))  # fmt: skip
    keys = ["num_seqs", "context", "batch_digest"]
    medians = rows.groupby([*keys, "implementation", "page_size"], dropna=False)["decode"].median().reset_index()
    base = medians[medians["implementation"].eq(BASELINE)].set_index(keys)["decode"].rename("contiguous_us")
    frame = medians[medians["page_size"].notna()].join(base, on=keys)
    return frame.assign(
        overhead=100 * (frame["decode"] / frame["contiguous_us"] - 1), batch=frame["num_seqs"].astype(int)
    )


def _draw(frame: pd.DataFrame) -> Figure:
    panels = list(frame.groupby("batch", sort=True))
    figure, grid = panel_grid(len(panels), width=5.0, height=4.0)
    for axes, (batch, rows) in zip(grid, panels, strict=True):
        for place, (name, line) in enumerate(rows.groupby(["implementation", "page_size"])):
            axes.plot(
                line["context"],
                line["overhead"],
                marker=MARKERS[place % len(MARKERS)],
                label=f"{name[0]}, page {name[1]}",
            )
        axes.axhspan(20, 26, color="black", alpha=0.12)
        axes.set_title(f"batch {batch} (band: printed, 20 to 26 %)", fontsize="small")
        axes.set_xlabel("context (tokens)")
        axes.legend(fontsize="x-small")
    grid[0].set_ylabel("slower than contiguous (%)")
    figure.suptitle(
        "Figure 18a: one decode step on pages (medians of the replicates, no error bars)", fontsize="medium"
    )
    return figure


PAPER_FIG18A = FigureSpec(
    name="paper_fig18a",
    question="PagedAttention, Figure 18a: what does paging cost the attention kernel?",
    command="python bench/run.py -m experiment=paper_fig18a device=cuda",
    select=_select,
    draw=_draw,
)
