"""PagedAttention paper, Figures 12, 14, 16 and 17: latency against request rate, and sustained rates."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.reports.figures.style import MARKERS, FigureSpec, panel_grid
from bench.reports.paper.figures.rows import SYSTEMS, data_name, experiment_rows, model_name
from bench.reports.paper.figures.sustained import CLAIMED_AT, THRESHOLDS, sustained_rates
from bench.reports.paper.registry import load_claims

SLACK = 1.01
"""Two latencies within 1 % have no order, because at low rates all systems serve the same batches."""

TOP_S = 10.0
"""Cut-off of latency in figures, in seconds per token."""

IDENTITY = ["model", "dataset", "lengths", "sampling", "num_samples", "shared_prefix_tokens"]


def latency_curves(table: pd.DataFrame, *experiments: str) -> pd.DataFrame:
    """Return normalized latency in seconds per token and unfinished requests, one line per system and rate."""
    rows = pd.concat([experiment_rows(table, name) for name in experiments])  # order of the panels
    frame = rows[[*IDENTITY, "system", "gpu", "num_gpus"]].assign(
        rate=rows["rate_per_s"].astype(float),
        latency=rows["normalized_latency_ms_per_token"].astype(float) / 1000,
        unfinished=rows["unfinished_requests"],
    )
    return frame.reset_index(drop=True)


def with_order(frame: pd.DataFrame) -> pd.DataFrame:
    """Add whether the paper's order of systems holds at each rate: vLLM, Oracle, Pow2, Max."""
    if frame.empty:
        return frame
    wide = frame.pivot_table(index=[*IDENTITY, "rate"], columns="system", values="latency", dropna=False)
    present = [name for name in reversed(SYSTEMS.values()) if name in wide]
    ordered = pd.Series(True, index=wide.index)
    for better, worse in itertools.pairwise(present):
        ordered &= ~(wide[better] > SLACK * wide[worse])
    return frame.merge(ordered.rename("ordered").reset_index(), on=[*IDENTITY, "rate"], how="left")


def draw_curves(frame: pd.DataFrame, title: str, name_of: Callable[[pd.Series], str], columns: int = 3) -> Figure:
    """Draw a panel for each identity and a line per system, with dotted thresholds."""
    panels = [rows for _, rows in frame.groupby(IDENTITY, sort=False, dropna=False)]
    figure, grid = panel_grid(len(panels), width=4.0, height=3.6, columns=columns)
    systems = [name for name in SYSTEMS.values() if name in set(frame["system"])]
    for axes, rows in zip(grid, panels, strict=True):
        _panel(axes, rows, systems)
        axes.set_title(name_of(rows.iloc[0]))
    for axes in grid[::columns]:
        axes.set_ylabel("normalized latency (s / token)")
    figure.legend(*grid[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(systems))
    figure.suptitle(f"{title}\n(modelled times, one seed, no error bars, dotted: thresholds, cut off at {TOP_S:g} s)")
    return figure


def _panel(axes: Axes, rows: pd.DataFrame, systems: list[str]) -> None:
    for name in systems:
        place = list(SYSTEMS.values()).index(name)
        line = rows[rows["system"].eq(name)].sort_values("rate")
        axes.plot(line["rate"], line["latency"], marker=MARKERS[place], label=name, color=sns.color_palette()[place],
                  markersize=9 - 1.5 * place, markerfacecolor="none" if name != SYSTEMS["paged"] else None)  # fmt: skip
    for threshold in THRESHOLDS:
        axes.axhline(threshold, color="grey", linestyle=":", linewidth=1)
    axes.set_yscale("log")
    axes.set_ylim(0.007, TOP_S)
    axes.set_xlim(0, 1.04 * rows.loc[rows["latency"].lt(TOP_S), "rate"].max())
    axes.set_xlabel("requests per second")


def printed_range(figure: str, row: pd.Series) -> tuple[float, float] | None:
    """Return the printed number or range for a cell of a figure's frame, if a claim has one."""
    for claim in load_claims():
        answer = claim.answer
        if answer is None or answer.figure != figure:
            continue
        if all(row[column] == value for column, value in answer.where.items() if column != "threshold"):
            return claim.printed if isinstance(claim.printed, tuple) else (claim.printed, claim.printed)
    return None


def draw_ratios(frame: pd.DataFrame, figure_name: str, title: str, group: Callable[[pd.Series], str]) -> Figure:
    """Draw ratios of sustained rates against the threshold, a panel per pair, with printed ranges as bands."""
    panels = list(frame.groupby("pair", sort=False))
    figure, grid = plt.subplots(
        1, len(panels), figsize=(max(4.0 * len(panels), 6.4), 4.8), squeeze=False, layout="constrained"
    )
    named = frame.assign(name=[group(row) for _, row in frame.iterrows()])
    names = list(dict.fromkeys(named["name"]))
    for axes, (pair, rows) in zip(grid.flat, panels, strict=True):
        for place, name in enumerate(names):
            line = named[named["pair"].eq(pair) & named["name"].eq(name)]
            axes.plot(line["threshold"], line["ratio"], marker=MARKERS[place % len(MARKERS)], label=name)
        shown = rows["ratio"].dropna().astype(float).tolist()
        _ratio_axis(axes, shown + _bands(axes, figure_name, named.loc[rows.index]))
        axes.set_xscale("log")
        axes.set_xticks(list(THRESHOLDS), [f"{threshold:g}" for threshold in THRESHOLDS])
        axes.axvline(CLAIMED_AT, color="grey", linestyle=":", linewidth=1)
        axes.set_title(str(pair))
        axes.set_xlabel("threshold (s / token)")
        axes.minorticks_off()
    grid[0, 0].set_ylabel("ratio of sustained rates")
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    judged = f", claims are judged at the dotted line, {CLAIMED_AT:g} s / token" if _has_claims(figure_name) else ""
    figure.suptitle(f"{title}\n(modelled, one seed, no error bars{judged})")
    return figure


def _ratio_axis(axes: Axes, shown: list[float]) -> None:
    """Make the axis logarithmic, so that ratios between 1.2 and 20 are readable."""
    axes.set_yscale("log")
    low, high = min([1.0, *shown]), max([2.0, *shown])
    axes.set_ylim(0.85 * low, 1.25 * high)
    ticks = [tick for tick in (0.5, 0.7, 1, 1.5, 2, 3, 5, 7, 10, 20, 30, 50) if 0.85 * low <= tick <= 1.25 * high]
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()


def _has_claims(figure_name: str) -> bool:
    return any(claim.answer is not None and claim.answer.figure == figure_name for claim in load_claims())


def _bands(axes: Axes, figure_name: str, rows: pd.DataFrame) -> list[float]:
    """Draw printed ranges as grey bands and printed numbers as lines. Return their upper ends."""
    whose: dict[tuple[float, float], list[str]] = {}
    for _, row in rows.drop_duplicates("name").iterrows():
        if (printed := printed_range(figure_name, row)) is not None:
            whose.setdefault(printed, []).append(str(row["name"]))
    for (low, high), names in whose.items():
        if high > low:
            axes.axhspan(low, high, color="black", alpha=0.12, linewidth=0)
        else:
            axes.axhline(low, color="black", linewidth=1.2, linestyle="--")
        text = f"printed: {low:g} to {high:g}" if high > low else f"printed: {low:g}"
        if len(names) < rows["name"].nunique():
            datasets = set(rows.loc[rows["name"].isin(names), "dataset"])
            text += f" (on {', '.join(sorted(datasets))})" if len(names) > 1 else f" ({names[0]})"
        below = high == low < rows["ratio"].min()
        axes.annotate(text, (0.98, high), xycoords=("axes fraction", "data"), xytext=(0, -10 if below else 2),
                      textcoords="offset points", ha="right", fontsize="x-small", zorder=5,
                      bbox={"facecolor": "white", "alpha": 0.7, "linewidth": 0, "pad": 0.5})  # fmt: skip
    return [high for _, high in whose]


def model_and_data(row: pd.Series) -> str:
    """Return the source of the lengths of a panel, and whether they are a stand-in."""
    stand_in = " (stand-in)" if data_name(row).endswith("(stand-in)") else ""
    return f"{model_name(row['model'])}, {row['dataset']}{stand_in}"


def _sampling(row: pd.Series) -> str:
    number = int(row["num_samples"])
    return (
        "basic sampling"
        if number == 1
        else f"{'beam width' if row['sampling'] == 'beam' else 'parallel size'} {number}"
    )


def _prefix(row: pd.Series) -> str:
    return f"prefix of {row['shared_prefix_tokens']} tokens"


FIG12 = [f"paper_fig12_{model}{data}" for data in ("", "_alpaca") for model in ("13b", "66b", "175b")]


def _select_fig12(table: pd.DataFrame) -> pd.DataFrame:
    return with_order(latency_curves(table, *FIG12))


def _select_fig14(table: pd.DataFrame) -> pd.DataFrame:
    curves = latency_curves(table, "paper_fig12_13b_alpaca", "paper_fig14", "paper_fig14_beam")
    return with_order(curves[curves["system"].ne(SYSTEMS["reserved_pow2"])])  # with one sequence only


def _select_fig16(table: pd.DataFrame) -> pd.DataFrame:
    return latency_curves(table, "paper_fig16")


def _select_fig17(table: pd.DataFrame) -> pd.DataFrame:
    return with_order(latency_curves(table, "paper_fig17"))


def _rates_of(select: Callable[[pd.DataFrame], pd.DataFrame]) -> Callable[[pd.DataFrame], pd.DataFrame]:
    def rates(table: pd.DataFrame) -> pd.DataFrame:
        frame = select(table)
        return sustained_rates(frame, IDENTITY) if len(frame) else frame

    return rates


def _spec(name: str, question: str, command: str, select: Callable[[pd.DataFrame], pd.DataFrame],
          draw: Callable[[pd.DataFrame], Figure]) -> FigureSpec:  # fmt: skip
    return FigureSpec(name=name, question=f"PagedAttention, {question}", select=select, draw=draw,
                      command=f"python bench/run.py -m experiment={command}")  # fmt: skip


LATENCY_FIGURES = (
    _spec("paper_fig12", "Figure 12: how does latency grow with the request rate?", "paper_fig12_13b", _select_fig12,
          lambda frame: draw_curves(frame, "Figure 12: basic sampling", model_and_data)),
    _spec("paper_fig12_rates", "Figure 12: which rate is sustained, and what are the ratios?", "paper_fig12_13b",
          _rates_of(_select_fig12),
          lambda frame: draw_ratios(frame, "paper_fig12_rates", "Figure 12: sustained rates", model_and_data)),
    _spec("paper_fig14", "Figure 14: how does latency grow with several sequences?", "paper_fig14", _select_fig14,
          lambda frame: draw_curves(frame, "Figure 14: several sequences per request, OPT-13B on Alpaca (stand-in)",
                                    _sampling, columns=4)),
    _spec("paper_fig14_rates", "Figure 14: which rate is sustained with several sequences?", "paper_fig14",
          _rates_of(_select_fig14),
          lambda frame: draw_ratios(frame, "paper_fig14_rates", "Figure 14: sustained rates", _sampling)),
    _spec("paper_fig16", "Figure 16: how does latency grow with a shared prefix?", "paper_fig16", _select_fig16,
          lambda frame: draw_curves(frame, "Figure 16: LLaMA-13B behind a shared prefix (lengths assumed)", _prefix)),
    _spec("paper_fig16_rates", "Figure 16: which rate is sustained with a shared prefix?", "paper_fig16",
          _rates_of(_select_fig16),
          lambda frame: draw_ratios(frame, "paper_fig16_rates", "Figure 16: rates (lengths assumed)", _prefix)),
    _spec("paper_fig17", "Figure 17: how does latency grow for a chatbot?", "paper_fig17", _select_fig17,
          lambda frame: draw_curves(frame, "Figure 17: a chatbot on published conversations", model_and_data)),
    _spec("paper_fig17_rates", "Figure 17: which rate is sustained for a chatbot?", "paper_fig17",
          _rates_of(_select_fig17),
          lambda frame: draw_ratios(frame, "paper_fig17_rates", "Figure 17: sustained rates", model_and_data)),
)  # fmt: skip
"""Figures of this module."""
