"""What the paper's figures share: which rows are theirs, the paper's names, and printed numbers as marks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bench.reports.paper.experiments import sweeps_over
from bench.reports.paper.registry import STAND_IN, load_claims, printed_values

SYSTEMS: Final = {
    "reserved_max": "Orca (Max)",
    "reserved_pow2": "Orca (Pow2)",
    "reserved_oracle": "Orca (Oracle)",
    "paged": "vLLM",
}
"""The paper's systems by our policies, in its order."""

MODELS: Final = {"opt-13b": "OPT-13B", "opt-66b": "OPT-66B", "opt-175b": "OPT-175B", "llama-13b": "LLaMA-13B",
                 "llama-3-8b": "Llama 3 8B", "llama-3-70b": "Llama 3 70B"}  # fmt: skip
LENGTHS: Final = {
    STAND_IN: "stand-in",
    "derived_sharegpt_papermatched5000": "published first turns, resampled",
    "sharegpt_papermatched": "published first turns, resampled",
    "sharegpt_8k_filtered_stats_llama2_tokenizer": "published conversations",
}
"""Description of each file of lengths in the figures."""

DATASETS: Final = {"sharegpt": "ShareGPT", "alpaca": "Alpaca"}
_KNOWN_TRACES: Final = {"sharegpt": "ShareGPT", "alpaca": "Alpaca", "Azure": "Azure", "conversation_trace": "Mooncake",
                        "synthetic_trace": "Mooncake"}  # fmt: skip


def experiment_rows(table: pd.DataFrame, *experiments: str) -> pd.DataFrame:
    """Return the good rows of these experiments, each question once.

    A row belongs to an experiment that its column ``experiment`` names. A row that names none belongs to each
    experiment that sweeps over its values, so a sweep that was written out gives the same figures.
    """
    rows = table[table["status"].eq("ok")].drop_duplicates(["key", "replicate"])
    belongs = rows["experiment"].isin(experiments)
    for name in experiments:
        belongs |= rows["experiment"].isna() & sweeps_over(name, rows)
    rows = rows[belongs]
    return rows.assign(
        dataset=[dataset_of(workload, trace) for workload, trace in zip(rows["workload"], rows["trace"], strict=True)],
        lengths=rows["trace"].fillna(STAND_IN),
        system=rows["policy"].map(SYSTEMS),
    )


def dataset_of(workload: Any, trace: Any) -> Any:
    """Return the data set whose lengths a row has, as the paper names it."""
    if pd.isna(trace):
        return DATASETS.get(workload, workload)
    return next((name for part, name in _KNOWN_TRACES.items() if part in trace), trace)


def over_seeds(rows: pd.DataFrame, by: list[str], values: list[str]) -> pd.DataFrame:
    """Means over the seeds, and beside each ``<value>_low`` and ``_high``, the least and most of them."""
    rows = rows.astype(dict.fromkeys(values, float))
    grouped = rows.groupby(by, sort=False, dropna=False)
    low, high = grouped[values].min().add_suffix("_low"), grouped[values].max().add_suffix("_high")
    seeds = grouped["seed"].nunique().rename("seeds")
    return pd.concat([grouped[values].mean(), low, high, seeds], axis=1).reset_index()


def with_printed(frame: pd.DataFrame, figure: str, value: str) -> pd.DataFrame:
    """The frame with a column ``printed``: what the paper prints for that row's ``value``, where it does."""
    frame = frame.assign(printed=float("nan"))
    for where, printed in printed_values(figure, value):
        frame.loc[_matches(frame, where), "printed"] = printed
    return frame


def _matches(frame: pd.DataFrame, where: Mapping[str, Any]) -> pd.Series:
    found = pd.Series(True, index=frame.index)
    for column, value in where.items():
        found &= frame[column].eq(value)
    return found


def bars_with_marks(
    axes: Axes, rows: pd.DataFrame, *, x: str, y: str, hue: str, order: list[str], hues: list[str], fmt: str = "%.3g"
) -> None:
    """Grouped bars of ours with the span over the seeds, and the printed number as a diamond on each."""
    colours = sns.color_palette(n_colors=len(hues))
    width = 0.8 / len(hues)
    highest = float(rows[[y, "printed"]].max().max())
    for place, name in enumerate(hues):
        mine = rows[rows[hue].eq(name)].set_index(x).reindex(order)
        at = [position + (place - (len(hues) - 1) / 2) * width for position in range(len(order))]
        spread = None
        if f"{y}_low" in mine:
            ends = mine[y] - mine[f"{y}_low"], mine[f"{y}_high"] - mine[y]
            spread = [end.clip(lower=0).astype(float).tolist() for end in ends]
        axes.bar(at, mine[y], width=0.92 * width, yerr=spread, color=colours[place], label=name,
                        error_kw={"elinewidth": 1, "capsize": 2})  # fmt: skip
        mark_printed(axes, at, mine["printed"])
        for position, (_, bar) in zip(at, mine.iterrows(), strict=True):
            if pd.notna(bar[y]):
                top = bar.get(f"{y}_high", bar[y])
                near = top <= bar["printed"] <= top + 0.08 * highest  # the diamond would hide the number
                axes.annotate(fmt % bar[y], (position, bar["printed"] if near else top), xytext=(0, 6),
                              textcoords="offset points", ha="center", fontsize="x-small")  # fmt: skip
    axes.set_xticks(range(len(order)), order, fontsize="small")
    axes.grid(visible=False, axis="x")


def mark_printed(axes: Axes, at: Sequence[Any], printed: pd.Series) -> None:
    """A black diamond at each printed number."""
    axes.plot(at, printed, linestyle="", marker="D", markersize=6, color="black", markerfacecolor="none",
              markeredgewidth=1.4, zorder=5)  # fmt: skip


def legend_with_printed(where: Axes | Figure, handles_of: Axes, **how: Any) -> None:
    """A legend of what the axes show, and of the diamonds."""
    handles, labels = handles_of.get_legend_handles_labels()
    mark = Line2D([], [], linestyle="", marker="D", color="black", markerfacecolor="none")
    where.legend([*handles, mark], [*labels, "printed in the paper"], **how)


def model_name(name: Any) -> str:
    """A model as its authors write it."""
    return MODELS.get(name, str(name))


def data_name(row: Any) -> str:
    """Whose lengths a row has, and where they come from."""
    return f"{row['dataset']} ({LENGTHS.get(row['lengths'], row['lengths'])})"


def draw_ranges(axes: Axes, figure: str, value: str, side: Literal["left", "right"], **where: Any) -> None:
    """A grey band for each range that is printed for a column of a figure's frame, where these values belong to it.

    Args:
        axes: to draw on.
        figure: whose claims.
        value: the column.
        side: where the band has room for its words.
        where: values of other columns.
    """
    for claim in load_claims():
        answer = claim.answer
        if answer is None or (answer.figure, answer.value) != (figure, value) or not isinstance(claim.printed, tuple):
            continue
        if all(where.get(column) == wanted for column, wanted in answer.where.items()):
            low, high = claim.printed
            axes.axhspan(low, high, color="black", alpha=0.1, linewidth=0, zorder=0)
            text = f"printed on {where['dataset']}: {low:g} to {high:g}"
            place = {"left": 0.02, "right": 0.98}[side]
            axes.annotate(text, (place, high), xytext=(0, -2), xycoords=("axes fraction", "data"), ha=side,
                          va="top", textcoords="offset points", fontsize="x-small")  # fmt: skip


def seeds_text(frame: pd.DataFrame) -> str:
    """What the error bars are."""
    seeds = int(frame["seeds"].max())
    return f"mean of {seeds} seeds, error bars hold all of them" if seeds > 1 else "one seed, no error bars"
