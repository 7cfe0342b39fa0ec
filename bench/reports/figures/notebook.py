"""The notebook's three plots over seeds, with the exact numbers beside its own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.reports.figures.style import FigureSpec, label_bars, page_size_axis

COMMAND = "python bench/run.py -m experiment=notebook"
CUMULATIVE, EXACT = "the notebook: all sequences that ever came", "exact: sequences present at the end"
ASSUMED, COUNTED = "the notebook: by division", "exact: admitted until refused"
RESERVED, PAGED = "reserved_max (the notebook's “traditional”)", "paged"


def _select(table: pd.DataFrame, *, axis: str, lists: Mapping[str, str], how: tuple[str, str]) -> pd.DataFrame:
    """Return one line per seed, place on the axis, policy, and kind of number.

    Args:
        table: rows of a run.
        axis: list in ``curves`` that is the x axis.
        lists: name of the policy in the figure, by the list with its values.
        how: names of the notebook's numbers and of the exact ones.
    """
    lines = []
    for _, row in table[table["scenario"].eq("notebook") & table["curves"].notna()].iterrows():
        curves = json.loads(row["curves"])
        for name, policy in lists.items():
            if name not in curves:  # a row of an earlier version
                continue
            for kind, series in zip(how, (curves[name], curves[f"{name}_exact"]), strict=True):
                lines += [
                    {"seed": row["seed"], axis: x, "policy": policy, "figure": kind, "value": value}
                    for x, value in zip(curves[axis], series, strict=True)
                    if value is not None
                ]
    return pd.DataFrame(lines)


def _lines(axes: Axes, selection: pd.DataFrame, axis: str, palette: Mapping[str, str]) -> None:
    """Draw means over the seeds, with bands that cover 90 % of them."""
    sns.lineplot(
        selection, x=axis, y="percent", hue="policy", style="figure", style_order=[EXACT, CUMULATIVE],
        markers=["o", "X"], palette=palette, errorbar=("pi", 90), estimator="median", ax=axes,
    )  # fmt: skip
    axes.set_ylim(0, 102)
    axes.set_ylabel("memory efficiency (%)")
    _explain(axes)


def _draw_efficiency(selection: pd.DataFrame) -> Figure:
    figure, axes = plt.subplots(figsize=(10, 4.6), layout="constrained")
    _lines(axes, selection.assign(percent=100 * selection["value"]), "num_sequences_list", _palette())
    values = sorted(selection["num_sequences_list"].unique())
    axes.set_xscale("log")
    axes.set_xticks(values, [str(value) for value in values])
    axes.minorticks_off()
    axes.set_xlabel("sequences that came")
    figure.suptitle(f"Memory efficiency by number of sequences ({_seeds(selection)})", fontsize="medium")
    return figure


def _draw_used(selection: pd.DataFrame) -> Figure:
    figure, axes = plt.subplots(figsize=(10, 4.6), layout="constrained")
    millions = selection.assign(millions=selection["value"] / 1e6)
    sns.lineplot(
        millions, x="num_sequences_list", y="millions", hue="policy", style="figure", style_order=[EXACT, CUMULATIVE],
        markers=["o", "X"], palette=_palette(), errorbar=("pi", 90), estimator="median", ax=axes,
    )  # fmt: skip
    axes.set_ylim(bottom=0)
    axes.set_xlabel("sequences that came")
    axes.set_ylabel("memory called used (million elements)")
    _explain(axes)
    figure.suptitle(f"What the notebook calls used never falls ({_seeds(selection)})", fontsize="medium")
    return figure


def _explain(axes: Axes) -> None:
    """Put a legend beside the axes, with headings in words."""
    legend = axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    for text in legend.get_texts():
        text.set_text({"figure": "what is counted"}.get(text.get_text(), text.get_text()))


def _draw_page_size(selection: pd.DataFrame) -> Figure:
    figure, axes = plt.subplots(figsize=(10, 4.6), layout="constrained")
    _lines(axes, selection.assign(percent=100 * selection["value"]), "page_sizes", _palette())
    axes.set_ylim(80, 100.5)
    page_size_axis(axes, selection["page_sizes"])
    figure.suptitle(f"Memory efficiency by page size ({_seeds(selection)}, the axis starts at 80 %)", fontsize="medium")
    return figure


def _draw_concurrency(selection: pd.DataFrame) -> Figure:
    figure, axes = plt.subplots(figsize=(10, 4.6), layout="constrained")
    bars = selection.assign(
        memory=[f"{size / 1e6:g} M" for size in selection["memory_sizes"]],
        series=selection["policy"].str.split(" ").str[0] + ", " + selection["figure"],
    )
    order = [f"{policy}, {kind}" for policy in ("reserved_max", "paged") for kind in (COUNTED, ASSUMED)]
    colours = [colour for base in _palette().values() for colour in (base, sns.desaturate(base, 0.35))]
    sns.barplot(bars, x="memory", y="value", hue="series", hue_order=order, palette=colours, errorbar=("pi", 90),
                estimator="median", ax=axes)  # fmt: skip
    label_bars(axes, fmt="%.0f", fontsize="x-small", padding=4)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.set_ylim(top=3 * selection["value"].max())
    axes.set_xlabel("memory (elements)")
    axes.set_ylabel("sequences at once (logarithmic)")
    axes.legend(loc="upper left")
    figure.suptitle(f"Concurrent sequences by memory ({_seeds(selection)})", fontsize="medium")
    return figure


def _palette() -> dict[str, str]:
    first, second = sns.color_palette(n_colors=2).as_hex()
    return {RESERVED: first, PAGED: second}


def _seeds(selection: pd.DataFrame) -> str:
    number = selection["seed"].nunique()
    return f"median of {number} seeds, bands cover 90 %" if number > 1 else f"seed {selection['seed'].iloc[0]}"


NOTEBOOK_EFFICIENCY = FigureSpec(
    name="notebook_efficiency",
    question="The notebook's first plot: how much of the memory is used, by number of sequences?",
    command=COMMAND,
    select=partial(
        _select,
        axis="num_sequences_list",
        lists={"traditional_efficiency": RESERVED, "paged_efficiency": PAGED},
        how=(CUMULATIVE, EXACT),
    ),
    draw=_draw_efficiency,
)

NOTEBOOK_USED = FigureSpec(
    name="notebook_used",
    question="How much memory is in use, by the notebook's counters and by the held slots?",
    command=COMMAND,
    select=partial(
        _select,
        axis="num_sequences_list",
        lists={"total_allocated": RESERVED, "used_capacity": PAGED},
        how=(CUMULATIVE, EXACT),
    ),
    draw=_draw_used,
)

NOTEBOOK_PAGE_SIZE = FigureSpec(
    name="notebook_page_size",
    question="The notebook's second plot: how much does a longer page waste?",
    command=COMMAND,
    select=partial(_select, axis="page_sizes", lists={"efficiency_results": PAGED}, how=(CUMULATIVE, EXACT)),
    draw=_draw_page_size,
)

NOTEBOOK_CONCURRENCY = FigureSpec(
    name="notebook_concurrency",
    question="The notebook's third plot: how many sequences fit at once?",
    command=COMMAND,
    select=partial(
        _select,
        axis="memory_sizes",
        lists={"trad_concurrent": RESERVED, "paged_concurrent": PAGED},
        how=(ASSUMED, COUNTED),
    ),
    draw=_draw_concurrency,
)
