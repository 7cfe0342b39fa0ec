"""PagedAttention paper, Figure 19a: swapping and recomputation by page size, from rows of a GPU."""

from __future__ import annotations

from typing import Final

import pandas as pd
from matplotlib.figure import Figure

from bench.reports.figures.style import MARKERS, FigureSpec, move_legend_outside, page_size_axis, panel_grid
from bench.reports.paper.figures.rows import experiment_rows

LAYERS: Final = 40
"""Layers of OPT-13B. Times are measured for one layer."""

BOUND: Final = 1.2
"""Largest printed ratio of recomputation to swapping, as far as independent extractions confirm it."""

LINES: Final = {"recompute_ms": "compute again", "swap_out_ms": "swap out", "swap_in_ms": "swap in",
                "swap_ms": "swap out and in"}  # fmt: skip

MOVE_LABELS: Final = {"each": "a copy per page", "at_once": "pages at once"}


def _select(table: pd.DataFrame) -> pd.DataFrame:
    """Return each way to swap beside recomputing the same tokens with the same implementation and page size."""
    rows = experiment_rows(table, "paper_fig19a", "paper_fig19a_recompute")
    rows = rows[rows["device"].eq("cuda")]
    swapped, computed = rows[rows["swap_out_us"].notna()], rows[rows["linear_us"].notna()]
    if swapped.empty or computed.empty:
        return pd.DataFrame()
    times = [f"{name}_us" for name in ("swap_out", "swap_in", "prefill", "append", "linear")]
    rows = rows.astype(dict.fromkeys(times, float))
    in_ms = {name.replace("_us", "_ms"): rows[name] * LAYERS / 1000 for name in times}
    layers = rows.assign(pages=rows["page_size"].astype(int), moves=rows["page_moves"], **in_ms)
    alike = ["implementation", "pages", "live_tokens"]
    swaps = layers.loc[swapped.index].groupby([*alike, "moves"])[["swap_out_ms", "swap_in_ms"]].median()
    again = layers.loc[computed.index].assign(
        recompute_ms=lambda made: made[["prefill_ms", "append_ms", "linear_ms"]].sum(axis=1)
    )
    frame = swaps.reset_index().merge(again.groupby(alike)["recompute_ms"].median().reset_index(), on=alike)
    swap_ms = frame["swap_out_ms"] + frame["swap_in_ms"]
    return frame.assign(swap_ms=swap_ms, recompute_over_swap=frame["recompute_ms"] / swap_ms)


def _draw(frame: pd.DataFrame) -> Figure:
    panels = list(frame.groupby(["implementation", "moves"]))
    figure, grid = panel_grid(len(panels), width=5.4, height=4.2, columns=2)
    for axes, ((name, moves), rows) in zip(grid, panels, strict=True):
        for place, (column, label) in enumerate(LINES.items()):
            axes.plot(rows["pages"], rows[column], marker=MARKERS[place], label=label)
        axes.plot(rows["pages"], BOUND * rows["swap_ms"], color="black", linestyle=":",
                  label=f"printed: computing again\nis at most here ({BOUND:g} × swap)")  # fmt: skip
        page_size_axis(axes, rows["pages"])
        axes.set_yscale("log")
        axes.set_title(f"{name}, {MOVE_LABELS[str(moves)]}")
        axes.set_ylabel("all layers (ms)")
    move_legend_outside(figure, grid)
    tokens = int(frame["live_tokens"].iloc[0])
    figure.suptitle(f"Figure 19a: {tokens} tokens of OPT-13B, a layer's time × {LAYERS}\n(medians of the replicates, "
                    "no error bars)")  # fmt: skip
    return figure


PAPER_FIG19A = FigureSpec(
    name="paper_fig19a",
    question="PagedAttention, Figure 19a: what do swapping and computing again cost, by page size?",
    command="python bench/run.py -m experiment=paper_fig19a device=cuda, and experiment=paper_fig19a_recompute",
    select=_select,
    draw=_draw,
)
