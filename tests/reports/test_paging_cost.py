"""The costs of paging: what is divided by what, only among rows that did equal work, and where they are shown."""

from __future__ import annotations

import io
from typing import Any

import pandas as pd
import pytest
from rich.console import Console

from bench.reports.display import show_tables
from bench.reports.markdown import markdown_report
from bench.reports.paging_cost import COSTS, missing_arms, paging_costs
from bench.rows.columns import COLUMNS, NAMES

EQUAL = {
    "scenario": "decode", "status": "ok", "model": "m", "attention_shape": "8/8 x 64", "dtype": "float16",
    "device": "cuda", "workload": "fixed", "num_seqs": 2, "batch_digest": "d", "live_bytes": 1000, "timer": "events",
    "l2_mode": "cold", "replicate": 0, "null_reasons": {}, "fitness": "ok", "key": "k",
}  # fmt: skip
SHUFFLED = {"implementation": "paged_triton", "page_layout": "shuffled", "page_size": 4, "decode_us": 60.0}
IN_A_ROW = {"implementation": "paged_triton", "page_layout": "contiguous", "page_size": 4, "decode_us": 50.0}
CONTROL = {"implementation": "triton_contiguous", "decode_us": 40.0}
SDPA = {"implementation": "contiguous", "decode_us": 32.0}
SLOWER = {"implementation": "contiguous_flex", "decode_us": 99.0}
ARMS = (SHUFFLED, IN_A_ROW, CONTROL, SDPA, SLOWER)


def table_of(*rows: dict[str, Any]) -> pd.DataFrame:
    full = [{**EQUAL, **row} for row in rows]
    return pd.DataFrame(full, columns=list(NAMES)).astype({column.name: column.dtype for column in COLUMNS})


def shuffled_costs(table: pd.DataFrame) -> dict[str, Any]:
    (row,) = paging_costs(table).query("page_layout == 'shuffled'").to_dict("records")
    return {name: row[name] for name in COSTS}


def test_the_parts_multiply_to_the_total() -> None:
    costs = shuffled_costs(table_of(*ARMS))
    assert costs == {
        "paging_cost_layout": 60 / 50,
        "paging_cost_indirection": 50 / 40,
        "kernel_cost": 40 / 32,
        "paging_cost_total": 60 / 32,
    }
    product = costs["paging_cost_layout"] * costs["paging_cost_indirection"] * costs["kernel_cost"]
    assert product == pytest.approx(costs["paging_cost_total"])


def test_replicates_count_by_their_median() -> None:
    noisy = [{**SHUFFLED, "replicate": replicate, "decode_us": us} for replicate, us in enumerate((60.0, 900.0, 59.0))]
    assert shuffled_costs(table_of(*noisy, *ARMS[1:]))["paging_cost_layout"] == 60 / 50


@pytest.mark.parametrize(
    "other",
    [{"batch_digest": "e"}, {"attention_shape": "16/8 x 64"}, {"live_bytes": 2}, {"timer": "graph"}, {"status": "oom"}],
)
def test_unequal_work_is_not_divided(other: dict[str, Any]) -> None:
    costs = shuffled_costs(table_of(SHUFFLED, IN_A_ROW, {**CONTROL, **other}, SDPA))
    assert costs["paging_cost_layout"] == 60 / 50
    assert pd.isna(costs["paging_cost_indirection"])
    assert pd.isna(costs["kernel_cost"])
    assert costs["paging_cost_total"] == 60 / 32


def test_an_arm_of_another_page_size_is_not_taken() -> None:
    assert pd.isna(shuffled_costs(table_of(SHUFFLED, {**IN_A_ROW, "page_size": 16}))["paging_cost_layout"])


def test_missing_arms_are_named() -> None:
    lines = missing_arms(paging_costs(table_of(SHUFFLED, IN_A_ROW)))
    assert len(lines) == 3
    assert lines[0].startswith("paging_cost_indirection is null in 2 of 2 rows: it divides paged_triton with")


def test_the_printed_table_and_the_report_show_the_cost_of_paging() -> None:
    table = table_of(*ARMS)
    console = Console(record=True, width=200, file=io.StringIO())
    show_tables(table, console)
    printed = console.export_text()
    assert "× indirection" in printed
    assert "1.875" in printed
    report = markdown_report(table, {}, [])
    assert "## What paging costs" in report
    assert "| m | 8/8 x 64 | 2 | shuffled | 4 | 1.2 | 1.25 | 1.25 | 1.875 |" in report


def test_without_arms_the_table_is_empty() -> None:
    table = table_of(SDPA, SLOWER)
    assert paging_costs(table).empty
    assert "What paging costs" not in markdown_report(table, {}, [])
