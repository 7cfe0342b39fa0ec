"""Figures of the use of the pool, and of the sequences that it admits."""

from __future__ import annotations

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.config.numbers import number_text, size_text
from bench.reports.figures.style import FigureSpec, move_legend_outside, panel_grid, varying
from bench.rows.columns.printing import value_text
from impls.interface import POLICY_KINDS

PART_LABELS = {
    "live_bytes": "live",
    "reserved_bytes": "reserved",
    "internal_fragmentation_bytes": "internal fragmentation",
    "external_fragmentation_bytes": "external fragmentation",
    "cached_bytes": "cached",
    "free_bytes": "free",
}
"""The six parts of a pool, in the order in which they are stacked."""

AXES = ("scenario", "model", "workload", "num_seqs", "memory_budget_bytes", "page_layout", "held", "queue",
        "arena", "page_size")  # fmt: skip

POLICY_ORDER = tuple(POLICY_KINDS)
"""Policies in the order of the figures."""


def _one_per_question(table: pd.DataFrame) -> pd.DataFrame:
    """Return means over the seeds. Bookkeeping is equal in every replicate and implementation of a policy."""
    rows = table[table["pool_bytes"].notna() & table["policy"].notna()]
    numbers = ["pool_bytes", *PART_LABELS, "admitted_seqs", "refused_seqs"]
    once = rows.drop_duplicates(["policy", *AXES, "seed", "batch_digest"]).astype(dict.fromkeys(numbers, "Float64"))
    means = once.groupby(["policy", *AXES], dropna=False, sort=False)[numbers].mean().reset_index()
    return means.assign(seeds=once["seed"].nunique())


def part_palette() -> list[tuple[float, float, float]]:
    """Return a colour for each part. Free memory is light."""
    return [*sns.color_palette(n_colors=len(PART_LABELS) - 1), (0.88, 0.88, 0.88)]


def axis_text(name: str, value: object) -> str:
    """Return an axis and its value as text."""
    if pd.isna(value):  # type: ignore[call-overload]
        return f"no {name}"
    return value_text(name, value) if name.endswith("_bytes") else f"{name}={value_text(name, value)}"


def _panels(selection: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Return a panel for each combination of the axes that vary, without policies and axes of single policies."""
    names = [name for name in varying(selection, *AXES) if name not in ("page_size", "arena")]
    if not names:
        return [("", selection)]
    groups = selection.groupby(names, dropna=False, sort=False)
    return [(", ".join(map(axis_text, names, values)), rows) for values, rows in groups]


def _bars(selection: pd.DataFrame) -> pd.Series:
    """Return the name of each bar in its panel."""
    extra = varying(selection[selection["page_size"].notna()], "page_size")
    extra += varying(selection[selection["arena"].notna()], "arena")
    names = [
        "\n".join([str(row["policy"]), *(axis_text(name, row[name]) for name in extra if pd.notna(row[name]))])
        for _, row in selection.iterrows()
    ]
    return pd.Series(names, index=selection.index)


def _in_order(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.sort_values(
        ["policy", "arena", "page_size"], key=lambda column: column.map(_rank) if column.name == "policy" else column
    )


def _rank(policy: str) -> int:
    return POLICY_ORDER.index(policy) if policy in POLICY_ORDER else len(POLICY_ORDER)


def _draw_split(selection: pd.DataFrame) -> Figure:
    panels = _panels(selection.assign(bar=_bars(selection)))
    widest = max(len(rows) for _, rows in panels)
    figure, grid = panel_grid(len(panels), width=max(4.6, 1.25 * widest + 1), height=4.4)
    for axes, (title, rows) in zip(grid, panels, strict=True):
        _stack(axes, _in_order(rows))
        axes.set_title(title, fontsize="small")
    grid[0].set_ylabel("share of the pool (%)")
    move_legend_outside(figure, grid)
    seeds = int(selection["seeds"].max())
    over = f"mean of {seeds} seeds" if seeds > 1 else "exact"
    timed = ", mean over time" if selection["scenario"].eq("churn").any() else ""
    figure.suptitle(f"Memory split of the pool over all layers ({over}{timed})", fontsize="medium")
    return figure


def _stack(axes: Axes, rows: pd.DataFrame) -> None:
    shares = rows[list(PART_LABELS)].astype(float).div(rows["pool_bytes"].astype(float), axis=0) * 100
    bottom = pd.Series(0.0, index=rows.index)
    positions = range(len(rows))
    for (name, part), colour in zip(PART_LABELS.items(), part_palette(), strict=True):
        bars = axes.bar(positions, shares[name], bottom=bottom, label=part, color=colour, width=0.7)
        axes.bar_label(bars, [f"{share:.0f}" if share >= 4 else "" for share in shares[name]], label_type="center",
                       fontsize="x-small")  # fmt: skip
        bottom += shares[name]
    for position, (_, row) in zip(positions, rows.iterrows(), strict=True):
        admitted = row["admitted_seqs"]  # null for scenario=serving
        text = size_text(row["pool_bytes"]) + ("" if pd.isna(admitted) else f"\n{number_text(admitted)} seqs")
        axes.annotate(text, (position, 101), ha="center", va="bottom", fontsize="x-small")
    axes.set_xticks(list(positions), list(rows["bar"]), fontsize="x-small")
    axes.set_ylim(0, 113)
    axes.grid(visible=False, axis="x")


def _select_admitted(table: pd.DataFrame) -> pd.DataFrame:
    """Return rows with a fixed offer. ``scenario=capacity`` has a figure of its own."""
    return _one_per_question(table[table["scenario"].eq("decode")])


def _draw_admitted(selection: pd.DataFrame) -> Figure:
    panels = _panels(selection.assign(bar=_bars(selection)))
    widest = max(len(rows) for _, rows in panels)
    figure, grid = panel_grid(len(panels), width=max(4.6, 1.25 * widest + 1), height=3.8)
    for axes, (title, rows) in zip(grid, panels, strict=True):
        ordered = _in_order(rows)
        positions = range(len(ordered))
        bars = axes.bar(positions, ordered["admitted_seqs"], label="admitted", width=0.7)
        axes.bar(positions, ordered["refused_seqs"], bottom=ordered["admitted_seqs"], label="refused", width=0.7,
                 color="lightgrey")  # fmt: skip
        axes.bar_label(bars, fmt="%g", label_type="center", color="white")
        axes.set_xticks(list(positions), list(ordered["bar"]), fontsize="x-small")
        axes.set_title(title, fontsize="small")
    grid[0].set_ylabel("sequences")
    move_legend_outside(figure, grid)
    figure.suptitle("Sequences admitted before the first refusal (exact)", fontsize="medium")
    return figure


MEMORY_SPLIT = FigureSpec(
    name="memory_split",
    question="Where does the memory of the pool go, under each policy?",
    command="python bench/run.py -m experiment=churn",
    select=_one_per_question,
    draw=_draw_split,
)

ADMITTED = FigureSpec(
    name="admitted_seqs",
    question="How many sequences does the budget admit?",
    command="python bench/run.py -m experiment=memory_budget",
    select=_select_admitted,
    draw=_draw_admitted,
)
