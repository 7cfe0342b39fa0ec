"""Strings of a hostile row have no effect in a terminal, in Markdown, in XML or in a spreadsheet."""

from __future__ import annotations

import doctest
from pathlib import Path

import pandas as pd
import pytest

from bench.reports.display import doubts, show_run
from bench.reports.markdown import markdown_report
from bench.rows import neutral
from bench.rows.neutral import for_markdown, for_spreadsheet, for_terminal
from bench.rows.table import typed, write_table

HOSTILE = "[/bold]\x1b]0;owned\x07\x1b[2J<script>alert(1)</script>|# x\n# y @all [a](http://b) `c` \u202e"


def row(**changes: object) -> dict[str, object]:
    return {
        "key": "k",
        "replicate": 0,
        "status": "ok",
        "policy": HOSTILE,
        "batch_digest": "d",
        "pool_bytes": 5,
        "measured_s": 1.0,
        "harness_s": 1.0,
        **changes,
    }


def test_the_doctests_hold() -> None:
    assert doctest.testmod(neutral).failed == 0


def test_a_terminal_gets_no_control_character(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [row(), row(key="l", status="crashed", status_reason=HOSTILE, policy="[/bold]")]
    show_run(typed(rows, tmp_path), tmp_path, planned=2, figures=[])
    printed = capsys.readouterr().out
    assert "[/bold]" in printed
    assert not {"\x1b", "\x07", "\u202e"} & set(printed)


def test_a_report_holds_no_tag_and_no_new_cell(tmp_path: Path) -> None:
    table = typed(
        [row(fitness="doubtful", fitness_reasons=HOSTILE), row(key="l", status="crashed", status_reason=HOSTILE)],
        tmp_path,
    )
    text = markdown_report(table, {"fingerprint": HOSTILE, "gpu": HOSTILE}, [])
    assert "<script" not in text
    assert "\x1b" not in text
    assert "@all" not in text
    assert [line for line in text.splitlines() if line.startswith("# ")] == [text.splitlines()[0]]


@pytest.mark.parametrize("text", ["=1+1", "+1", "-cmd|x", "@SUM(A1)", "\t=1", " =1", "\r=1"])
def test_a_spreadsheet_gets_no_formula(text: str) -> None:
    assert for_spreadsheet(pd.DataFrame({"a": [text, "plain", None]}))["a"].tolist()[:2] == [f"'{text}", "plain"]


def test_numbers_of_a_spreadsheet_are_kept(tmp_path: Path) -> None:
    (tmp_path / "points").mkdir()
    write_table(typed([row(policy="=cmd()", pool_bytes=-5)], tmp_path), tmp_path)
    read = pd.read_csv(tmp_path / "table.csv")
    assert (read["policy"][0], read["pool_bytes"][0]) == ("'=cmd()", -5)
    assert pd.read_parquet(tmp_path / "table.parquet")["policy"][0] == "=cmd()"


def test_the_code_of_a_newer_version_is_shown(tmp_path: Path) -> None:
    (line,) = doubts(typed([row(fitness_reasons="newcode: x")], tmp_path))
    assert "newcode: x" in line
    assert "newer version" in line


def test_plain_text_is_unchanged() -> None:
    for text in ("page_size=16", "é漢 0.5 µs", "× 1.5"):
        assert for_terminal(text) == for_markdown(text) == text
    assert for_terminal("a\nb") == "a\nb"
