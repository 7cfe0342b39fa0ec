"""The figure ``decode_latency``: every row is visible, and rows of different work have different markers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from bench.reports.figures.decode import DECODE_LATENCY
from bench.rows.table import typed


def row(decode_us: float, **changes: Any) -> dict[str, Any]:
    return {"key": f"{decode_us}", "replicate": 0, "status": "ok", "scenario": "decode",
            "implementation": "paged_torch", "policy": "paged", "model": "tiny", "workload": "uniform", "num_seqs": 2,
            "page_layout": "shuffled", "memory_budget_bytes": 1, "page_size": 16, "seed": 0, "device": "cpu",
            "dtype": "float32",
            "attention_shape": "8/8 x 64", "batch_digest": "d", "decode_us": decode_us, "timer": "perf_counter",
            "decode_us_low": 0.9 * decode_us, "decode_us_high": 1.1 * decode_us, "l2_mode": "hot", "fitness": "ok",
            **changes}  # fmt: skip


def drawn(*rows: dict[str, Any]) -> plt.Figure:
    table: pd.DataFrame = typed(rows, Path("rows"))
    return DECODE_LATENCY.draw(DECODE_LATENCY.select(table))


def visible_values(figure: plt.Figure) -> list[float]:
    """Return the medians that are inside the limits of their panel."""
    found = []
    for axes in figure.axes:
        low, high = axes.get_ylim()
        found += [float(y) for line in axes.containers for y in line[0].get_ydata() if low <= float(y) <= high]
    return sorted(found)


def test_a_panel_of_larger_values_is_not_empty() -> None:
    figure = drawn(row(10.0), row(20.0, page_size=64), row(500.0, num_seqs=64), row(900.0, num_seqs=64, page_size=64))
    assert visible_values(figure) == [10.0, 20.0, 500.0, 900.0]


@pytest.mark.parametrize(
    ("column", "value"),
    [("dtype", "float16"), ("seed", 1), ("attention_shape", "8/4 x 64"), ("model", "opt-13b"), ("policy", "prefix"),
     ("device", "cuda"), ("trace", "b")],
)  # fmt: skip
def test_rows_of_different_work_are_not_merged(column: str, value: Any) -> None:
    plain = row(10.0, trace="a") if column == "trace" else row(10.0)
    assert visible_values(drawn(plain, {**plain, **row(30.0), "trace": plain.get("trace"), column: value})) == [
        10.0,
        30.0,
    ]


def test_a_doubtful_row_looks_different() -> None:
    labels = drawn(row(10.0), row(20.0, page_size=64, fitness="doubtful")).axes[0].get_legend_handles_labels()[1]
    assert sorted(labels) == ["paged_torch", "paged_torch, doubtful"]
    assert drawn(row(10.0)).axes[0].get_legend_handles_labels()[1] == ["paged_torch"]
