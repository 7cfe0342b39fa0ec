"""``scripts/compare_runs.py`` over real folders: exit codes, and one sentence for whatever cannot be compared."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.compare.load import load_side
from bench.compare.verdicts import noise
from scripts import compare_runs
from tests.conftest import ROOT
from tests.support.folders import times, write_folder
from tests.support.sides import row

Compare = Callable[..., int]


@pytest.fixture
def compare(monkeypatch: pytest.MonkeyPatch) -> Compare:
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)

    def run(*arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", ["compare_runs.py", *map(str, arguments)])
        return compare_runs.main()

    return run


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return times(tmp_path / "base")


@pytest.mark.parametrize(("scale", "code"), [(1.0, 0), (0.5, 0), (1.5, 3)])
def test_exit_codes_of_what_was_compared(base: Path, tmp_path: Path, compare: Compare, scale: float, code: int) -> None:
    assert compare(base, times(tmp_path / "candidate", scale), "--out", tmp_path / "out") == code
    assert json.loads((tmp_path / "out" / "comparison.json").read_text())["exit_code"] == code


def test_the_other_exit_codes(base: Path, tmp_path: Path, compare: Compare) -> None:
    assert compare(base, times(tmp_path / "few", 1.5, replicates=3), "--kind", "timing") == 4, "nothing was decided"
    other = times(tmp_path / "other", 1.5, facts={"cpu_model": "another"})
    assert compare(base, other) == 5
    assert compare(base, other, "--allow-mismatch", "cpu_model") == 3
    assert compare(base, other, "--kind", "exact") == 0
    assert compare(base, times(tmp_path / "three", replicates=3), "--fail-on-inconclusive") == 6


def test_no_baseline(base: Path, tmp_path: Path, compare: Compare, capsys: pytest.CaptureFixture[str]) -> None:
    assert compare(tmp_path / "none", base) == 0
    assert "there is no baseline" in capsys.readouterr().out
    assert compare(tmp_path / "none", base, "--require-baseline") == 4
    assert compare(base, tmp_path / "none") == 2, "a candidate there must be"


def broken_row(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "points" / "a-0.json"
    content = json.loads(path.read_text())
    changed = change(content)
    path.write_text(changed if isinstance(changed, str) else json.dumps(content))


BAD_ROWS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "truncated": (lambda content: json.dumps(content)[:200], "is not a whole row"),
    "newer": (lambda content: content.update(schema_version=7), "has schema version 7. This version reads up to 1"),
    "ancient": (lambda content: content.update(schema_version=0), "has schema version 0"),
    "unversioned": (lambda content: content.pop("schema_version") and None, "it has no schema_version"),
    "without a key": (lambda content: content.pop("key") and None, "it has no key"),
    "NaN": (lambda content: content.update(decode_us=float("nan")), "holds NaN"),
    "infinite": (lambda content: content.update(decode_us=float("inf")), "holds Infinity"),
    "negative": (lambda content: content.update(decode_us=-3.0), "decode_us=-3.0 of a-0 must be above 0 and finite"),
    "zero": (lambda content: content.update(decode_us=0), "decode_us=0.0 of a-0 must be above 0 and finite"),
    "another unit": (lambda content: content.update(decode_ms=0.1), "decode_ms is not known here. There is decode_us"),
    "a text for a number": (lambda content: content.update(decode_us="fast"), "decode_us='fast' must be a number"),
    "a fraction of a page": (lambda content: content.update(peak_pages=7.5), "peak_pages=7.5 must be a number"),
    "unknown status": (lambda content: content.update(status="fine"), "status=fine must be one of ok"),
    "a number as text": (lambda content: content.update(decode_us="12"), "decode_us='12' must be a number"),
    "true for a number": (lambda content: content.update(peak_pages=True), "peak_pages=True must be a number"),
    "more than 64 bits": (lambda content: content.update(peak_pages=10**30), "must be a number (Int64)"),
    "a replicate below 0": (lambda content: content.update(replicate=-1), "replicate=-1 must be at least 0"),
    "a version that is no number": (lambda content: content.update(schema_version=True), "it has no schema_version"),
    "a name twice": (lambda content: '{"key": "a",' + json.dumps(content)[1:], "holds key twice"),
    "duplicates": (lambda content: content.update(key="b"), "1 rows are duplicates, the first is b-0"),
}


@pytest.mark.parametrize("side", ["base", "candidate"])
@pytest.mark.parametrize("fault", BAD_ROWS)
def test_a_bad_row_is_one_sentence_and_exit_2(
    base: Path, tmp_path: Path, compare: Compare, capsys: pytest.CaptureFixture[str], fault: str, side: str
) -> None:
    candidate = times(tmp_path / "candidate")
    change, sentence = BAD_ROWS[fault]
    broken_row(base if side == "base" else candidate, change)
    assert compare(base, candidate) == 2
    printed = capsys.readouterr()
    assert sentence in printed.err
    assert printed.err.startswith("error: ")
    assert printed.err.count("\n") == 1
    assert printed.out == ""


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda folder: (folder / "plan.json").unlink(), "is no run folder"),
        (lambda folder: (folder / "plan.json").write_text("{"), "plan.json cannot be read"),
        (lambda folder: (folder / "plan.json").write_text("{}"), "is not a whole plan"),
        (
            lambda folder: (folder / "plan.json").write_text('{"points": [], "replicates": "two"}'),
            "replicates='two' must be a whole number of at least 1",
        ),
        (
            lambda folder: (folder / "plan.json").write_text(
                '{"points": [{"key": "a"}, {"key": "a"}], "replicates": 1}'
            ),
            "the keys of its points must be texts without duplicates",
        ),
        (lambda folder: (folder / "interleaved.json").write_text("{}"), "pairs=None must be a text"),
        (lambda folder: (folder / "points" / "c-0.json").mkdir(), "c-0.json must be a regular file"),
        (lambda folder: (folder / "environment.json").write_text('{"git": 5}'), "git=5 must be a JSON object"),
        (lambda folder: (folder / "environment.json").write_text('{"schema_version": -1}'), "has schema version -1"),
        (lambda folder: (folder / "environment.json").unlink(), "it has no environment.json"),
        (lambda folder: (folder / "environment.json").write_text("[]"), "must hold a JSON object"),
        (lambda folder: (folder / "environment.json").write_text('{"schema_version": 9}'), "has schema version 9"),
    ],
)
def test_a_broken_folder_is_one_sentence_and_exit_2(
    base: Path,
    tmp_path: Path,
    compare: Compare,
    capsys: pytest.CaptureFixture[str],
    spoil: Callable[[Path], object],
    sentence: str,
) -> None:
    candidate = times(tmp_path / "candidate")
    spoil(candidate)
    assert compare(base, candidate) == 2
    printed = capsys.readouterr()
    assert sentence in printed.err
    assert printed.err.count("\n") == 1


def test_a_folder_that_is_no_run(
    base: Path, tmp_path: Path, compare: Compare, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.txt").write_text("no run")
    assert compare(base, tmp_path / "empty") == 2
    assert compare(tmp_path / "text.txt", base) == 2
    assert "no run folder" in capsys.readouterr().err


def test_a_run_without_rows_and_an_empty_intersection_are_incomplete(
    base: Path, tmp_path: Path, compare: Compare, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = times(tmp_path / "bare")
    for path in (bare / "points").iterdir():
        path.unlink()
    assert compare(base, bare) == 4
    assert "nothing was compared, no point matched" in capsys.readouterr().out
    other = write_folder(tmp_path / "other", [row("c", r, decode_us=1.0) for r in range(6)])
    assert compare(base, other) == 4
    assert compare(base, other, "--allow-new") == 4


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--metric", "decode_ms"), "metric=decode_ms is not known (did you mean decode_us?)"),
        (("--ignore", "speed"), "metric=speed is not known"),
        (("--kind", "times"), "kind=times is not known"),
        (("--floor", "2"), "floor=2.0 must be at least 0 and below 1"),
        (("--allow-mismatch", "colour"), "--allow-mismatch=colour is not known"),
    ],
)
def test_bad_options(
    base: Path, compare: Compare, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], sentence: str
) -> None:
    assert compare(base, base, *options) == 2
    assert sentence in capsys.readouterr().err


def test_an_unusable_out_folder_is_refused_before_comparing(
    base: Path, compare: Compare, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compare(base, base, "--out", base / "plan.json") == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "plan.json cannot be written: File exists" in printed.err


def test_a_metric_without_values_is_reported(base: Path, compare: Compare, capsys: pytest.CaptureFixture[str]) -> None:
    assert compare(base, base, "--metric", "append_us") == 4
    assert "the base measured none of the metrics to judge" in capsys.readouterr().out


def test_an_internal_error_exits_1(
    base: Path, compare: Compare, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.compare.command.show", lambda *_, **__: 1 / 0)
    assert compare(base, base) == 1
    assert "internal error: ZeroDivisionError" in capsys.readouterr().err


def test_the_command_works_without_a_terminal(base: Path, tmp_path: Path) -> None:
    summary = tmp_path / "summary.md"
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "compare_runs.py", "base", times(tmp_path / "candidate", 1.5)],
        cwd=tmp_path, capture_output=True, text=True, check=False,
        env={**os.environ, "GITHUB_STEP_SUMMARY": str(summary)},
    )  # fmt: skip
    assert done.returncode == 3, done.stderr
    assert "regressed (exit 3)" in done.stdout
    assert summary.read_text().startswith("## regressed (exit 3)")


def test_rows_of_an_older_version_are_migrated(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A later version that called ``peak_pages`` something else would bring the rows of this one along."""
    monkeypatch.setattr("bench.rows.record.SCHEMA_VERSION", 2)
    monkeypatch.setattr("bench.rows.record.MIGRATIONS", {1: lambda row: {**row, "peak_pages": row["peak_pages"] + 1}})
    assert set(load_side(base).table["peak_pages"]) == {8}


def test_the_table_replaces_the_rows_only_while_it_is_newer(tmp_path: Path, compare: Compare) -> None:
    folder = times(tmp_path / "run", table=True)
    same = load_side(folder).table
    assert same["decode_us"].tolist() == load_side(times(tmp_path / "without")).table["decode_us"].tolist()
    path = folder / "points" / "a-0.json"
    path.write_text(path.read_text()[:100])
    os.utime(path, (2e9, 2e9))
    assert compare(folder, times(tmp_path / "candidate")) == 2


def test_the_measured_noise_floor_is_used(
    base: Path, tmp_path: Path, compare: Compare, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(noise, "FLOORS", tmp_path / "noise")
    candidate = times(tmp_path / "candidate", 1.10)
    assert compare(base, candidate) == 3
    side = load_side(candidate)
    in_turn = replace(side, table=side.table.assign(took_turns=True))
    noise.write_floor({"decode_us": 0.2}, in_turn, {"pairs": 10})
    assert compare(base, candidate) == 3, "that is the floor of runs that took turns"
    noise.write_floor({"decode_us": 0.2}, side, {"pairs": 10})
    assert compare(base, candidate) == 0
    (tmp_path / "noise" / "f00.json").write_text("{}")
    assert compare(base, candidate) == 2
    assert "measure it again with scripts/aa.py" in capsys.readouterr().err
