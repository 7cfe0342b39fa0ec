"""The registry of columns: one entry is enough for a new metric, and entries agree with each other and with rows."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from bench.rows.columns import BY_NAME, COLUMNS, NAMES, TOPICS, matched_for
from bench.rows.columns.printing import printed_in, value_text
from bench.rows.record import read_row
from bench.runner.round import WEIGHED
from tests.conftest import ROOT

GUIDE = (ROOT / "docs" / "adding.md").read_text(encoding="utf-8")

USES = """
import io, json
import pandas as pd
from rich.console import Console
from bench.compare import Rules, Side, compare
from bench.reports.display import show_tables
from bench.reports.markdown import markdown_report
from bench.rows.table import typed
from scripts.update_docs import columns_by_topic

def rows(factor):
    return typed([{"key": key, "replicate": replicate, "status": "ok", "scenario": "decode", "implementation": key,
                   "batch_digest": "d", "timer": "events", "l2_mode": "cold", "server_id": f"{factor}-{replicate}",
                   "fingerprint": "f", "merge_us": factor * (place + 1) * (1 + replicate / 1000)}
                  for place, key in enumerate("ab") for replicate in range(6)], "rows")

def side(factor):
    return Side(name="made", table=rows(factor), facts={"fingerprint": "f"}, planned={"a": 6, "b": 6},
                interleaved="pairs")

console = Console(record=True, width=200, file=io.StringIO())
show_tables(rows(1234.5), console)
verdicts = {factor: compare(side(1.0), side(factor), Rules(kinds=("timing",))).verdicts for factor in (1.5, 0.5)}
print(json.dumps({
    "printed": console.export_text(),
    "report": markdown_report(rows(1234.5), {}, []),
    "documents": columns_by_topic(),
    "verdicts": {factor: sorted(set(found["verdict"])) for factor, found in verdicts.items()},
    "unit": sorted(set(verdicts[1.5]["unit"])),
}))
"""


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a copy of the sources prints, judges and documents, with the entry of the guide and no other edit."""
    copy = tmp_path_factory.mktemp("copy")
    for folder in ("bench", "impls", "scripts"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    topic = copy / "bench" / "rows" / "columns" / "timing.py"
    text = topic.read_text(encoding="utf-8")
    assert text.endswith("    ),\n)\n")
    entry = re.search(r"<!-- python: metric -->\n```python\n(.*?)```", GUIDE, re.S)
    assert entry
    end = "    ),\n)\n"
    topic.write_text(text.removesuffix(end) + entry[1].rstrip() + ",\n" + end, encoding="utf-8")
    done = subprocess.run([sys.executable, "-c", USES], cwd=copy, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_one_entry_is_printed_with_heading_and_unit_and_its_best_is_marked(used: dict[str, Any]) -> None:
    assert "merge µs" in used["printed"]
    assert "1,234*" in used["printed"], "the lower value of two points with equal work"
    assert "2,469*" not in used["printed"]


def test_one_entry_is_in_the_report(used: dict[str, Any]) -> None:
    assert "| merge_us |" in used["report"]


def test_one_entry_is_judged_in_its_direction(used: dict[str, Any]) -> None:
    assert used["verdicts"] == {"1.5": ["regressed"], "0.5": ["improved"]}
    assert used["unit"] == ["µs"]


def test_one_entry_is_documented(used: dict[str, Any]) -> None:
    line = (
        "| `merge_us` | timing | lower | µs | merge µs (times, report) |  | time to merge the splits of a decode step |"
    )
    assert line in used["documents"]
    assert "merge_us" not in NAMES


def test_names_are_unique_and_each_column_is_in_one_topic() -> None:
    assert [name for name, count in Counter(NAMES).items() if count > 1] == []
    assert [column.name for topic in TOPICS for column in topic.columns] == list(NAMES)


def test_derived_columns_name_columns_and_are_not_judged() -> None:
    for column in COLUMNS:
        assert set(column.derived_from) <= set(NAMES), column.name
        assert not (column.derived_from and column.judged), column.name


def test_only_scenarios_that_exist_fill_columns() -> None:
    names = {yaml.safe_load(path.read_text())["name"] for path in (ROOT / "conf" / "scenario").glob("*.yaml")}
    assert {name for column in COLUMNS for name in column.scenarios} <= names | {"pytest_benchmark"}


def test_a_marked_column_has_a_direction_and_is_printed() -> None:
    marked = [column for column in COLUMNS if column.marks_best]
    assert len(marked) > 10
    assert [column.name for column in marked if column.better is None or not column.tables] == []


def test_headings_are_unique_in_their_table() -> None:
    for table in ("question", "times", "memory", "counts", "serving"):
        headings = [column.printed for column in printed_in(table)]
        assert len(set(headings)) == len(headings), table
        assert all(headings), table


def test_the_memory_process_fills_the_levels_and_the_storage() -> None:
    assert {"storage_bytes", "logical_bytes", "process_memory_bytes", "torch_alloc_retries"} <= set(WEIGHED)
    assert {column.name for column in COLUMNS if column.kind == "memory"} <= set(WEIGHED)
    assert "fitness" not in WEIGHED


def test_times_are_compared_between_equal_work_and_equal_timing() -> None:
    assert matched_for("timing") == ("batch_digest", "timer", "l2_mode")
    assert matched_for("memory") == ("batch_digest",)
    assert matched_for("exact") == ()


STORED = sorted(path for folder in ("tests/rows/fixtures", "results/reference") for path in
                (ROOT / folder).rglob("points/*.json"))  # fmt: skip


@pytest.mark.parametrize("path", STORED, ids=lambda path: path.stem)
def test_stored_rows_have_values_only_where_the_registry_allows_them(path: Path) -> None:
    row = read_row(path)
    if row["status"] != "ok":
        return
    for name, value in row.items():
        column = BY_NAME[name]
        if value is None:
            continue
        assert not column.scenarios or row["scenario"] in column.scenarios, name
        if column.limits is not None:
            low, high = column.limits
            assert low <= value <= high, name


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("decode_us", 12.3456, "12.35"),
        ("decode_us", None, "–"),
        ("max_rel_error", 2.139e-7, "2.1e-07"),
        ("pool_bytes", 64 * 2**20, "64 MiB"),
        ("padding_bytes", -(2**30), "-1 GiB"),
        ("steps", 15729, "15,729"),
        ("page_size", 1024, "1024"),
        ("rate_per_s", 2.5, "2.5"),
        ("memory_budget_bytes", 2**30, "1 GiB"),
        ("policy", "paged", "paged"),
        ("mixed", True, "True"),
        ("kernel_cost", 1.23456, "1.235"),
    ],
)
def test_values_are_printed_by_their_column(name: str, value: Any, text: str) -> None:
    assert value_text(name, value) == text
