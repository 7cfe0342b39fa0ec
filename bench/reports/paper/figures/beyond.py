"""Figures beyond the PagedAttention paper: its systems with modern models, and production traces."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from bench.reports.figures.style import MARKERS, FigureSpec, label_bars
from bench.reports.paper.figures.latency import IDENTITY, draw_curves, draw_ratios, latency_curves, model_and_data
from bench.reports.paper.figures.rows import SYSTEMS, experiment_rows, model_name
from bench.reports.paper.figures.sustained import sustained_rates

MODERN = ("modern_llama3_8b", "modern_llama3_70b")


def _select_modern(table: pd.DataFrame) -> pd.DataFrame:
    return latency_curves(table, *MODERN)


def _select_modern_rates(table: pd.DataFrame) -> pd.DataFrame:
    frame = _select_modern(table)
    return sustained_rates(frame, IDENTITY) if len(frame) else frame


def _select_azure(table: pd.DataFrame) -> pd.DataFrame:
    rows = experiment_rows(table, "azure_conv")
    numbers = {
        "offered": rows["offered_per_s"],
        "normalized latency": rows["normalized_latency_ms_per_token"],
        "time to first token, p90": rows["ttft_ms_p90"],
    }
    frame = rows[["trace", "model", "system"]].assign(**{name: value.astype(float) for name, value in numbers.items()})
    return frame.sort_values(["system", "offered"]).reset_index(drop=True)


def _draw_azure(frame: pd.DataFrame) -> Figure:
    figure, grid = plt.subplots(1, 2, figsize=(10, 4.4), layout="constrained")
    units = {"normalized latency": "s / token", "time to first token, p90": "s"}
    for axes, (column, unit) in zip(grid, units.items(), strict=True):
        for place, name in enumerate(SYSTEMS.values()):
            line = frame[frame["system"].eq(name)]
            fill = None if name == SYSTEMS["paged"] else "none"
            axes.plot(line["offered"], line[column] / 1000, label=name, marker=MARKERS[place],
                      markersize=9 - 1.5 * place, markerfacecolor=fill)  # fmt: skip
        axes.set_yscale("log")
        axes.set_xlabel("requests per second, mean over the trace")
        axes.set_ylabel(f"{column} ({unit})")
    figure.legend(*grid[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(SYSTEMS))
    first = frame.iloc[0]
    figure.suptitle(f"Azure's chats on {model_name(first['model'])}, one H100: their own arrivals, and denser\n"
                    "(modelled times, one trace, no error bars)")  # fmt: skip
    return figure


def _select_mooncake(table: pd.DataFrame) -> pd.DataFrame:
    rows = experiment_rows(table, "mooncake_serving")
    return pd.DataFrame(
        {
            "trace": rows["trace"],
            "policy": rows["policy"],
            "budget_gib": rows["memory_budget_bytes"].astype(float) / 2**30,
            "found_percent": 100 * rows["prefix_hit_ratio"].astype(float),
            "ttft_ms_p50": rows["ttft_ms_p50"].astype(float),
            "ttft_ms_p90": rows["ttft_ms_p90"].astype(float),
        }
    ).reset_index(drop=True)


def _draw_mooncake(frame: pd.DataFrame) -> Figure:
    figure, grid = plt.subplots(1, 2, figsize=(10, 4.4), layout="constrained")
    bars = frame.assign(budget=frame["budget_gib"].map("{:g} GiB".format), seconds=frame["ttft_ms_p50"] / 1000)
    bars["policy"] = bars["policy"].map({"paged": "pages", "prefix": "pages, prefixes found again"})
    sns.barplot(bars, x="budget", y="seconds", hue="policy", errorbar=None, saturation=1, ax=grid[0])
    label_bars(grid[0], fmt="%.2f", fontsize="small", padding=2)
    figure.legend(*grid[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    grid[0].get_legend().remove()
    grid[0].set_ylabel("time to first token, median (s)")
    found = bars[frame["policy"].eq("prefix")]
    sns.barplot(found, x="budget", y="found_percent", errorbar=None, color=sns.color_palette()[1], saturation=1,
                ax=grid[1])  # fmt: skip
    label_bars(grid[1], fmt="%.1f", fontsize="small", padding=2)
    grid[1].set_ylabel("prompt tokens found again (%)")
    for axes in grid:
        axes.set_xlabel("KV memory")
        axes.margins(y=0.12)
    figure.suptitle("Mooncake's conversations on Llama 3 8B, four H100: prefixes found again while serving\n"
                    "(modelled times, one trace, no error bars)")  # fmt: skip
    return figure


BEYOND_FIGURES = (
    FigureSpec(
        name="modern_models",
        question="The paper's systems with modern models: how does latency grow with the request rate?",
        command="python bench/run.py -m experiment=modern_llama3_8b",
        select=_select_modern,
        draw=lambda frame: draw_curves(frame, "Beyond the paper: grouped heads on H100s", model_and_data),
    ),
    FigureSpec(
        name="modern_models_rates",
        question="The paper's systems with modern models: what rate is sustained?",
        command="python bench/run.py -m experiment=modern_llama3_8b",
        select=_select_modern_rates,
        draw=lambda frame: draw_ratios(
            frame, "modern_models_rates", "Beyond the paper: grouped heads on H100s, sustained rates", model_and_data
        ),
    ),
    FigureSpec(
        name="azure_conv",
        question="How do the systems serve an hour of production chats?",
        command="python bench/run.py -m experiment=azure_conv workload.path=traces/AzureLLMInferenceTrace_conv.csv",
        select=_select_azure,
        draw=_draw_azure,
    ),
    FigureSpec(
        name="mooncake_serving",
        question="What does finding prefixes again save while serving?",
        command="python bench/run.py -m experiment=mooncake_serving workload.path=traces/conversation_trace.jsonl",
        select=_select_mooncake,
        draw=_draw_mooncake,
    ),
)
"""Figures of this module."""
