"""Every output format of a comparison is valid and complete, and all agree."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import jsonschema
import numpy as np
import pandas as pd
import pytest

from bench.compare import Comparison, Rules, Side, compare
from bench.compare.output.forms import SCHEMA_FILE, action_benchmark, bencher, dumped, junit, to_json
from bench.compare.output.markdown import markdown
from bench.compare.output.store import append_summary, write_comparison
from bench.compare.output.terminal import show
from tests.support.sides import FACTS, row, side_of, timed

VALIDATOR = jsonschema.Draft202012Validator(json.loads(SCHEMA_FILE.read_text()))


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    """One regressed time, one that is the same, one counter improved, one failed point and one missing."""
    rng = np.random.default_rng(0)

    def rows(scale: float, pages: int, last: str, missing: bool) -> list[dict[str, object]]:
        made = []
        for replicate in range(10):
            noise = np.exp(rng.normal(0, 0.002, 3))
            made.append(row("slow", replicate, decode_us=100 * scale * noise[0], finished_per_s=10.0))
            made.append(row("same|one", replicate, decode_us=100 * noise[1], peak_pages=pages))
            made.append(row("crash", replicate, status=last, status_reason="ended by signal 9", decode_us=None))
            if not missing:
                made.append(row("gone", replicate, decode_us=5.0))
        return made

    base = side_of(rows(1.0, 40, "crashed", False))
    return compare(base, side_of(rows(1.2, 39, "crashed", True)), Rules())


def test_json_follows_its_schema_and_holds_every_verdict(comparison: Comparison) -> None:
    content = json.loads(dumped(to_json(comparison)))
    VALIDATOR.validate(content)
    assert content["exit_code"] == 4
    assert content["counts"]["regressed"] == 1
    assert {point["key"]: point["outcome"] for point in content["points"]} == {
        "slow": "compared", "same|one": "compared", "crash": "failed", "gone": "missing",
    }  # fmt: skip
    assert next(verdict["verdict"] for verdict in content["verdicts"]) == "regressed", "worst first"
    assert content["rules"]["least_floor"] == 0.02


def test_the_schema_refuses_fields_that_are_not_documented(comparison: Comparison) -> None:
    content = to_json(comparison)
    for broken in ({**content, "schema_version": 2}, {**content, "extra": 1}, {**content, "exit_code": 7}):
        assert not VALIDATOR.is_valid(broken)
    del content["counts"]
    assert not VALIDATOR.is_valid(content)


@pytest.mark.parametrize(
    ("base", "code"),
    [
        (side_of([], planned={}), 4),
        (side_of([row("a", decode_us=1.0)], facts={**FACTS, "gpu": "another"}), 5),
    ],
)
def test_an_empty_or_refused_comparison_has_every_form_too(base: Side, code: int, tmp_path: Path) -> None:
    made = compare(base, side_of([row("a", decode_us=1.0)]), Rules())
    write_comparison(made, tmp_path)
    content = json.loads((tmp_path / "comparison.json").read_text())
    VALIDATOR.validate(content)
    assert content["exit_code"] == code
    assert ET.parse(tmp_path / "junit.xml").find(".//error") is not None
    assert f"(exit {code})" in (tmp_path / "comparison.md").read_text()


def test_junit_has_failures_errors_and_skips(comparison: Comparison) -> None:
    suite = ET.fromstring(junit(comparison))
    failed = [case.get("classname") for case in suite if case.find("failure") is not None]
    errors = {case.get("classname") for case in suite if case.find("error") is not None}
    assert failed == ["slow"]
    assert errors == {"crash", "gone"}
    assert suite.get("tests") == str(len(suite))
    assert (suite.get("failures"), suite.get("errors")) == ("1", "2")
    undecided = compare(timed(np.full((1, 3), 5.0)), timed(np.full((1, 3), 6.0)), Rules())
    assert ET.fromstring(junit(undecided)).find(".//skipped") is not None


def test_the_formats_of_other_tools(comparison: Comparison) -> None:
    smaller, bigger = (action_benchmark(comparison, better) for better in ("lower", "higher"))
    assert {entry["name"] for entry in smaller} == {"slow decode_us", "same|one decode_us", "same|one peak_pages"}
    assert {entry["name"] for entry in bigger} == {"slow finished_per_s"}
    for entry in smaller + bigger:
        assert set(entry) == {"name", "unit", "value", "range", "extra"}
        assert isinstance(entry["value"], float)
    metric = bencher(comparison)["slow"]["decode_us"]
    assert metric["lower_value"] <= metric["value"] <= metric["upper_value"]
    assert metric["value"] == pytest.approx(120, rel=0.01)


def test_markdown_hides_equal_points_and_shows_the_counts(comparison: Comparison) -> None:
    text = markdown(comparison, limit_bytes=10**6)
    assert "| regressed | slow | decode_us |" in text
    assert "same\\|one | decode_us" not in text
    assert "same\\|one | decode_us" in markdown(comparison, limit_bytes=10**6, everything=True)
    assert "2 compared, 1 missing, 1 failed" in text
    assert "failed: crash (base: crashed: ended by signal 9, candidate: crashed: ended by signal 9)" in text


@pytest.mark.parametrize("limit", [1500, 20_000])
def test_markdown_stays_within_its_size_and_counts_what_is_cut(limit: int) -> None:
    values = np.full((300, 5), 100.0)
    comparison = compare(timed(values), timed(values * 1.5), Rules())
    text = markdown(comparison, limit_bytes=limit)
    assert len(text.encode()) <= limit
    listed = sum(line.startswith(("| regressed",)) for line in text.splitlines())
    left_out = int(text.strip().splitlines()[-1].split()[0])
    assert listed + left_out == 301, "300 points and their mean"
    assert "0 inconclusive" in text


def test_the_summary_is_cut_to_the_space_left_in_the_file(comparison: Comparison, tmp_path: Path) -> None:
    summary = tmp_path / "summary.md"
    append_summary(comparison, {})
    append_summary(comparison, {"GITHUB_STEP_SUMMARY": str(summary)})
    once = summary.read_text()
    append_summary(comparison, {"GITHUB_STEP_SUMMARY": str(summary)})
    assert summary.read_text() == once * 2
    summary.write_text("x" * (1024 * 1024 - 1000))
    append_summary(comparison, {"GITHUB_STEP_SUMMARY": str(summary)})
    assert summary.stat().st_size <= 1024 * 1024


def test_the_terminal_shows_the_worst_first_and_counts_what_is_cut(
    comparison: Comparison, capsys: pytest.CaptureFixture[str]
) -> None:
    show(comparison, everything=False)
    printed = capsys.readouterr().out
    assert "slow" in printed
    assert "missing: gone" in printed
    assert "incomplete (exit 4)" in printed
    assert "same|one" not in printed.split("peak_pages")[1].split("geometric")[0]
    values = np.full((100, 5), 100.0)
    show(compare(timed(values), timed(values * 1.5), Rules()), everything=False)
    assert "40 more rows are not shown. --all shows them" in capsys.readouterr().out


def test_every_output_file_is_written(comparison: Comparison, tmp_path: Path) -> None:
    written = write_comparison(comparison, tmp_path / "out")
    assert {path.name for path in written} == {
        "comparison.json", "comparison.md", "comment.md", "comparison.csv", "comparison.parquet", "junit.xml",
        "smaller_is_better.json", "bigger_is_better.json", "bencher.json", "forest.png",
    }  # fmt: skip
    for table in (pd.read_csv(tmp_path / "out" / "comparison.csv"), pd.read_parquet(written[-2])):
        assert table["verdict"].tolist() == comparison.verdicts["verdict"].tolist()
    forest = pd.read_csv(tmp_path / "out" / "forest.csv")
    assert set(forest["metric"]) == {"decode_us"}
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="cannot be written"):
        write_comparison(comparison, tmp_path / "file")
