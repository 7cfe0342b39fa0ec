"""What is printed at the end of a run: long tables, and marks of the best rows."""

from __future__ import annotations

import io

import pandas as pd
import pytest
from rich.console import Console

from bench.reports.display import MOST_ROWS, show_tables
from bench.rows.columns import COLUMNS, NAMES


def printed(num_rows: int, **values: str) -> str:
    rows = [
        {"key": str(seed), "seed": seed, "status": "ok", "decode_us": 1.0 + seed, **values} for seed in range(num_rows)
    ]
    table = pd.DataFrame(rows, columns=list(NAMES)).astype({column.name: column.dtype for column in COLUMNS})
    console = Console(record=True, width=200, file=io.StringIO())
    show_tables(table, console)
    return console.export_text()


def test_a_long_table_is_cut_and_counts_the_hidden_rows() -> None:
    text = printed(MOST_ROWS + 1234)
    assert "… and 1,234 more rows in table.csv" in text
    assert sum(line.startswith("│") for line in text.splitlines()) == MOST_ROWS


def test_a_table_that_fits_is_whole() -> None:
    assert "more rows" not in printed(MOST_ROWS)


@pytest.mark.parametrize(("fitness", "marked"), [("ok", True), ("doubtful", False)])
def test_marks_are_explained_if_there_are_any(fitness: str, marked: bool) -> None:
    text = printed(2, fitness=fitness, batch_digest="equal")
    assert ("* best of its column" in text) is marked
    assert text.count("1*") == marked
