"""Rows: whole or absent, complete or refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.rows.columns import NAMES
from bench.rows.json_file import write_json
from bench.rows.record import read_row, row_path, write_row


def row(**changes: object) -> dict[str, object]:
    reasons = dict.fromkeys(NAMES, "a test's row")
    return {"key": "k", "replicate": 0, "status": "ok", "null_reasons": reasons, **changes}


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    for part in ("points", "samples"):
        (tmp_path / part).mkdir()
    return tmp_path


def test_a_row_comes_back_with_every_column_in_order(run_dir: Path) -> None:
    write_row(run_dir, row(decode_us=1.5), {"decode": [1.0, 2.0]})
    read = read_row(row_path(run_dir, "k", 0))
    assert tuple(read) == NAMES
    assert read["decode_us"] == 1.5
    assert json.loads((run_dir / "samples" / "k-0.json").read_text()) == {"decode": [1.0, 2.0]}


def test_an_unknown_column_is_refused(run_dir: Path) -> None:
    with pytest.raises(ValueError, match="no such column: decode_ms"):
        write_row(run_dir, row(decode_ms=1), {})


def test_an_unknown_status_is_refused(run_dir: Path) -> None:
    with pytest.raises(ValueError, match="status=fine must be one of ok"):
        write_row(run_dir, row(status="fine"), {})


def test_a_null_needs_a_reason(run_dir: Path) -> None:
    reasons = {name: "a test's row" for name in NAMES if name != "decode_us"}
    with pytest.raises(ValueError, match="null without a reason: decode_us"):
        write_row(run_dir, row(null_reasons=reasons), {})


def test_not_a_number_becomes_null(run_dir: Path) -> None:
    write_row(run_dir, row(max_rel_error=float("inf"), status="incorrect"), {})
    assert read_row(row_path(run_dir, "k", 0))["max_rel_error"] is None


def test_a_failed_write_leaves_the_old_file_and_no_other(run_dir: Path) -> None:
    write_json(run_dir / "a.json", {"old": 1})
    with pytest.raises(TypeError):
        write_json(run_dir / "a.json", {"new": object()})
    assert json.loads((run_dir / "a.json").read_text()) == {"old": 1}
    assert sorted(path.name for path in run_dir.iterdir()) == ["a.json", "points", "samples"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('{"schema_version": 99}', "has schema version 99. This version reads up to"),
        ('{"key": "k"', "is not a whole row"),
        ("[]", "is not a row: it has no schema_version"),
    ],
)
def test_a_file_that_is_not_a_row_is_reported(run_dir: Path, text: str, sentence: str) -> None:
    (run_dir / "points" / "k-0.json").write_text(text)
    with pytest.raises(ValueError, match=sentence):
        read_row(run_dir / "points" / "k-0.json")
