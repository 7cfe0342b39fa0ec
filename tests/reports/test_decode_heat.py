"""The heat map of batch by length: which rows it takes, and that it draws."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd

from bench.reports.catalogue import draw_figures
from bench.reports.figures.decode_heat import DECODE_HEAT
from bench.rows.columns import COLUMNS, NAMES


def row(name: str, num_seqs: int, length: int, ratio: float, **other: Any) -> dict[str, Any]:
    return {
        "status": "ok", "scenario": "decode", "workload": "fixed", "implementation": name, "num_seqs": num_seqs,
        "page_size": 16 if name.startswith("paged") else None, "admitted_seqs": num_seqs, "refused_seqs": 0,
        "live_tokens": num_seqs * length, "ceiling_ratio": ratio, "device": "cuda", "dtype": "float16",
        "l2_mode": "cold", "replicate": 0, **other,
    }  # fmt: skip


def table_of(*rows: dict[str, Any]) -> pd.DataFrame:
    return pd.DataFrame(list(rows), columns=list(NAMES)).astype({column.name: column.dtype for column in COLUMNS})


def grid(name: str, scale: float = 1.0) -> list[dict[str, Any]]:
    return [
        row(name, num_seqs, length, scale * min(1, num_seqs * length / 65536) * 0.9)
        for num_seqs, length in product((1, 4, 16, 64), (512, 2048, 8192))
    ]


def test_replicates_count_by_their_median_and_failures_not() -> None:
    rows = grid("paged_triton")
    again = [{**rows[0], "replicate": replicate, "ceiling_ratio": ratio} for replicate, ratio in ((1, 0.5), (2, 0.9))]
    failed = row("paged_triton", 1, 512, 0.1, status="incorrect", replicate=3)
    selection = DECODE_HEAT.select(table_of(*rows, *again, failed))
    assert len(selection) == len(rows)
    assert selection.set_index(["num_seqs", "length_tokens"])["ceiling_ratio"][1, 512] == 0.5


def test_one_batch_or_one_length_gives_no_map() -> None:
    assert DECODE_HEAT.select(table_of(row("a", 1, 512, 0.5), row("a", 4, 512, 0.5))).empty
    assert DECODE_HEAT.select(table_of(row("a", 1, 512, 0.5), row("a", 1, 1024, 0.5))).empty


def test_the_map_is_drawn(tmp_path: Path) -> None:
    table = table_of(*grid("contiguous", 0.8), *grid("paged_triton"))
    assert draw_figures(table, tmp_path, ["decode_heat"]) == [tmp_path / "decode_heat.png"]
