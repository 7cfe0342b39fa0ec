"""PagedAttention paper, Table 1, Figure 1 (left) and Figure 3, by arithmetic on shapes."""

from __future__ import annotations

import json

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from bench.config.numbers import number_text
from bench.reports.figures.style import FigureSpec, label_bars
from bench.reports.paper.figures.rows import (
    data_name,
    experiment_rows,
    legend_with_printed,
    mark_printed,
    model_name,
    with_printed,
)

TABLE1_BUDGET_GIB = {"opt-13b": 12, "opt-66b": 21, "opt-175b": 264}
"""KV memory as Table 1 prints it. Its GB fit only as GiB."""
FIG1_TOTAL_GB, FIG1_PARAMETERS = 40, 13e9
"""Figure 1: an A100 with 40 GB, and 13 billion parameters of 2 bytes."""
FIG3_REQUESTS = {"A": (2048, 10), "B": (512, 5)}
"""Request: slots reserved, and tokens that it ends with (7 + 3 and 3 + 2)."""


def _select_table1(table: pd.DataFrame) -> pd.DataFrame:
    rows = experiment_rows(table, "paper_table1")
    budget_gib = rows["memory_budget_bytes"].astype(float) / 2**30
    rows = rows.assign(budget_gib=budget_gib)[rows["model"].map(TABLE1_BUDGET_GIB) == budget_gib]
    slots = rows["admitted_seqs"].astype(float)
    token_bytes = rows["live_bytes"].astype(float) / rows["live_tokens"].astype(float)
    columns = {"model": rows["model"], "budget_gib": rows["budget_gib"], "token_bytes": token_bytes, "slots": slots}
    frame = pd.DataFrame({**columns, "kslots": slots / 1000})
    return with_printed(frame, "paper_table1", "kslots")


def _draw_table1(frame: pd.DataFrame) -> Figure:
    figure, axes = plt.subplots(figsize=(6.4, 4.2), layout="constrained")
    bars = axes.bar(frame["model"], frame["kslots"], width=0.6, color=sns.color_palette()[0], label="ours")
    axes.bar_label(bars, [number_text(round(slots)) for slots in frame["slots"]], fontsize="small", padding=6)
    mark_printed(axes, range(len(frame)), frame["printed"])
    for place, printed in enumerate(frame["printed"]):
        axes.annotate(
            f"printed: {printed:g}K", (place, printed), xytext=(0, -18), textcoords="offset points", ha="center",
            fontsize="small", color="white",
        )  # fmt: skip
    names = [
        f"{model_name(model)}\n{gib:g} GiB" for model, gib in zip(frame["model"], frame["budget_gib"], strict=True)
    ]
    axes.set_xticks(range(len(frame)), names)
    axes.grid(visible=False, axis="x")
    axes.set_ylabel("token slots (thousands)")
    axes.margins(y=0.15)
    legend_with_printed(axes, axes)
    figure.suptitle("Table 1: slots that the printed KV memory holds (arithmetic, no error bars)")
    return figure


def _select_fig01(table: pd.DataFrame) -> pd.DataFrame:
    rows = _select_table1(table)
    budget = rows.loc[rows["model"].eq("opt-13b"), "budget_gib"]
    if budget.empty:
        return pd.DataFrame()
    parameters = 100 * 2 * FIG1_PARAMETERS / (FIG1_TOTAL_GB * 1e9)
    cache = 100 * float(budget.iloc[0]) / FIG1_TOTAL_GB
    parts = {"parameters": parameters, "KV cache": cache, "others": 100 - parameters - cache}
    return with_printed(pd.DataFrame({"part": list(parts), "share": list(parts.values())}), "paper_fig01", "share")


def _draw_fig01(frame: pd.DataFrame) -> Figure:
    figure, axes = plt.subplots(figsize=(6.0, 4.0), layout="constrained")
    sns.barplot(frame, x="part", y="share", color=sns.color_palette()[0], saturation=1, width=0.6, ax=axes)
    label_bars(axes, fmt="%.1f %%", padding=6, fontsize="small")
    mark_printed(axes, range(len(frame)), frame["printed"])
    axes.set_xlabel("")
    axes.set_ylabel("share of the GPU's memory (%)")
    axes.margins(y=0.15)
    legend_with_printed(axes, axes)
    figure.suptitle("Figure 1 (left): 13B parameters on 40 GB (arithmetic, no error bars)")
    return figure


def _select_fig03(table: pd.DataFrame) -> pd.DataFrame:
    rows = experiment_rows(table, "paper_fig03")
    lines = []
    for request, (reserved, tokens) in FIG3_REQUESTS.items():
        for _, row in rows[rows["live_tokens"].eq(tokens)].iterrows():
            token_bytes = row["live_bytes"] / row["live_tokens"]
            if row["pool_bytes"] / token_bytes == reserved:
                never = round(row["internal_fragmentation_bytes"] / token_bytes)
                gib = row["pool_bytes"] / 2**30
                lines.append({"request": request, "reserved": reserved, "tokens": tokens, "never_used": never,
                              "reserved_gib": gib})  # fmt: skip
    return with_printed(pd.DataFrame(lines), "paper_fig03", "never_used") if lines else pd.DataFrame()


def _draw_fig03(frame: pd.DataFrame) -> Figure:
    figure, axes = plt.subplots(figsize=(8.6, 3.2), layout="constrained")
    names = [f"request {name}" for name in frame["request"]]
    axes.barh(names, frame["tokens"], label="tokens, at the end", color=sns.color_palette()[0], linewidth=0)
    axes.barh(names, frame["never_used"], left=frame["tokens"], label="never used", color=sns.color_palette()[3],
              linewidth=0)  # fmt: skip
    for place, (_, row) in enumerate(frame.iterrows()):
        never_used, printed = number_text(row["never_used"]), number_text(row["printed"])
        text = f"{row['tokens']} used, {never_used} never used (printed: {printed})"
        axes.annotate(
            text, (row["reserved"], place), xytext=(6, 0), textcoords="offset points", va="center", fontsize="small"
        )
    axes.set_xscale("log")
    axes.set_xlim(1, 400 * frame["reserved"].max())
    axes.set_xticks([1, 10, 100, 512, 2048], ["1", "10", "100", "512", "2,048"])
    axes.minorticks_off()
    axes.set_xlabel("slots reserved (logarithmic: the used ones could not be seen otherwise)")
    axes.invert_yaxis()
    axes.grid(visible=False)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    figure.suptitle("Figure 3: reservations of two requests (exact, no error bars)")
    return figure


def _select_fig11(table: pd.DataFrame) -> pd.DataFrame:
    rows = experiment_rows(table, "paper_fig11", "paper_fig11_sharegpt")
    frames = []
    for _, seeds in rows.groupby(["dataset", "lengths"], sort=False):
        dataset, lengths = seeds["dataset"].iloc[0], seeds["lengths"].iloc[0]
        curves = json.loads(seeds["curves"].iloc[0])
        for which, side in (("input", "prompt"), ("output", "output")):
            bins = pd.DataFrame({"from_tokens": curves["from_tokens"], "share": curves[side]})
            mean = float(seeds[f"{side}_len_mean"].mean())
            frames.append(bins.assign(dataset=dataset, lengths=lengths, which=which, mean=mean))
    return with_printed(pd.concat(frames, ignore_index=True), "paper_fig11", "mean") if frames else pd.DataFrame()


def _draw_fig11(frame: pd.DataFrame) -> Figure:
    panels = list(frame.groupby(["dataset", "lengths"], sort=False))
    figure, grid = plt.subplots(1, len(panels), figsize=(4.4 * len(panels), 4.4), squeeze=False, layout="constrained")
    colours = sns.color_palette()
    for axes, (_, rows) in zip(grid.flat, panels, strict=True):
        means = []
        for colour, (which, line) in zip(colours, rows.groupby("which", sort=False), strict=False):
            mean, printed = line["mean"].iloc[0], line["printed"].iloc[0]
            width = line["from_tokens"].diff().iloc[-1]
            axes.bar(line["from_tokens"] + width / 2, 100 * line["share"], width=width, alpha=0.5, color=colour,
                     label=str(which))  # fmt: skip
            means.append(f"{which}: mean {mean:.1f}, printed {printed:.2f}")
            axes.axvline(mean, color=colour, linewidth=1.5)
            axes.plot([printed], [0], marker="D", clip_on=False, color="black", markerfacecolor=colour, zorder=5)
        axes.set_title("\n".join([data_name(rows.iloc[0]), *means]))
        axes.set_xlabel("tokens")
    grid[0, 0].set_ylabel("share of the requests (%)")
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    figure.suptitle("Figure 11: lengths of the first seed. Lines: our means over all seeds. Diamonds: printed means\n"
                    "(alike by construction, no error bars)")  # fmt: skip
    return figure


PAPER_TABLE1 = FigureSpec(
    name="paper_table1",
    question="PagedAttention, Table 1: how many token slots does the KV memory hold?",
    command="python bench/run.py -m experiment=paper_table1",
    select=_select_table1,
    draw=_draw_table1,
)
PAPER_FIG01 = FigureSpec(
    name="paper_fig01",
    question="PagedAttention, Figure 1 (left): how is the memory of the GPU used?",
    command="python bench/run.py -m experiment=paper_table1",
    select=_select_fig01,
    draw=_draw_fig01,
)
PAPER_FIG03 = FigureSpec(
    name="paper_fig03",
    question="PagedAttention, Figure 3: how many reserved slots are never used?",
    command="python bench/run.py -m experiment=paper_fig03",
    select=_select_fig03,
    draw=_draw_fig03,
)
PAPER_FIG11 = FigureSpec(
    name="paper_fig11",
    question="PagedAttention, Figure 11: how long are prompts and outputs?",
    command="python bench/run.py -m experiment=paper_fig11",
    select=_select_fig11,
    draw=_draw_fig11,
)
