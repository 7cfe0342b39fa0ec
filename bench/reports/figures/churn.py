"""Figures of churn: the pool over time, and its use by each policy."""

from __future__ import annotations

import json

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bench.reports.figures.memory import PART_LABELS, POLICY_ORDER, axis_text, part_palette
from bench.reports.figures.style import FigureSpec, label_bars, move_legend_outside, panel_grid, varying

COMMAND = "python bench/run.py -m experiment=churn"
AXES = ("model", "workload", "num_seqs", "memory_budget_bytes", "queue", "arena", "page_size")
MOST_PANELS = 12


def _select(table: pd.DataFrame) -> pd.DataFrame:
    rows = table[table["scenario"].eq("churn") & table["status"].eq("ok")]
    order = rows["policy"].map({policy: rank for rank, policy in enumerate(POLICY_ORDER)})
    rows = rows.assign(order=order).sort_values(["order", "seed"], kind="stable")
    columns = ["policy", *AXES, "seed", "running_mean", "largest_free_ratio", "preemptions", "loaded_steps", "curves"]
    return rows.drop_duplicates(["policy", *AXES, "seed"])[columns]


def _names(selection: pd.DataFrame) -> pd.Series:
    """Return a policy and the axes that vary among the policies that they affect."""
    names = [name for name in AXES if varying(selection[selection[name].notna()], name)]
    texts = [
        "\n".join([str(row["policy"]), *(axis_text(name, row[name]) for name in names if pd.notna(row[name]))])
        for _, row in selection.iterrows()
    ]
    return pd.Series(texts, index=selection.index, dtype=object)


def _select_over_time(table: pd.DataFrame) -> pd.DataFrame:
    """Return the first seed of each question, one line per sampled step."""
    rows = _select(table)
    rows = rows.assign(name=_names(rows))[rows["seed"].eq(rows["seed"].min())].head(MOST_PANELS)
    frames = [
        pd.DataFrame(json.loads(row["curves"])).assign(name=row["name"], loaded_steps=row["loaded_steps"])
        for _, row in rows.iterrows()
    ]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def _draw_over_time(selection: pd.DataFrame) -> Figure:
    panels = list(selection.groupby("name", sort=False))
    figure, grid = panel_grid(len(panels), width=3.9, height=3.3)
    for axes, (name, rows) in zip(grid, panels, strict=True):
        _area(axes, rows)
        axes.set_title(str(name).replace("\n", ", "), fontsize="small")
    grid[0].set_ylabel("share of the pool (%)")
    move_legend_outside(figure, grid)
    figure.suptitle("Use of the pool while requests wait, step by step (first seed)", fontsize="medium")
    return figure


def _area(axes: Axes, rows: pd.DataFrame) -> None:
    """Draw the steps until the queue is empty, like the means."""
    loaded = rows[rows["step"] < rows["loaded_steps"]]
    shares = [100 * loaded[name.removesuffix("_bytes")] for name in PART_LABELS]
    axes.stackplot(loaded["step"], *shares, labels=list(PART_LABELS.values()), colors=part_palette(), linewidth=0)
    axes.set_ylim(0, 100)
    axes.margins(x=0)
    axes.set_xlabel("step")
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.grid(visible=False)


def _select_policies(table: pd.DataFrame) -> pd.DataFrame:
    rows = _select(table).drop(columns="curves")
    return rows.assign(name=_names(rows))


def _draw_policies(selection: pd.DataFrame) -> Figure:
    names = list(dict.fromkeys(selection["name"]))
    figure, grid = plt.subplots(2, 1, figsize=(max(7.0, 1.2 * len(names) + 1), 6.2), sharex=True, layout="constrained")
    series = {"running_mean": "sequences running at once", "largest_free_ratio": "largest free extent / free memory"}
    for axes, (column, label) in zip(grid, series.items(), strict=True):
        bars = selection.assign(value=selection[column].astype(float))
        sns.barplot(bars, x="name", y="value", order=names, errorbar=("pi", 100), color=sns.color_palette()[0],
                    width=0.7, ax=axes)  # fmt: skip
        label_bars(axes, fmt="%.2f" if column.endswith("ratio") else "%.1f", fontsize="small", padding=4)
        axes.margins(y=0.15)
        axes.set_xlabel("")
        axes.set_ylabel(label, fontsize="small")
    grid[1].tick_params(axis="x", labelsize="small")
    seeds = selection["seed"].nunique()
    over = f", mean of {seeds} seeds, bars cover all seeds" if seeds > 1 else ""
    figure.suptitle(f"Serving over time: batch size, and how free memory fragments{over}", fontsize="medium")
    return figure


CHURN_OVER_TIME = FigureSpec(
    name="churn_over_time",
    question="How is the pool used over time, as sequences arrive and leave?",
    command=COMMAND,
    select=_select_over_time,
    draw=_draw_over_time,
)

CHURN_POLICIES = FigureSpec(
    name="churn_policies",
    question="How many sequences run at once under each policy, and how does free memory fragment?",
    command=COMMAND,
    select=_select_policies,
    draw=_draw_policies,
)
