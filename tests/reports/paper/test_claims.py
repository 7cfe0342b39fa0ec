"""Claims: the file is sound, and a verdict follows from rows alone."""

from __future__ import annotations

import dataclasses
import json
import subprocess
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from bench.reports.catalogue import all_figures
from bench.reports.paper.judge import CLAIM_VERDICTS, judge, judge_all
from bench.reports.paper.registry import CLAIMS, STAND_IN, AnswerCells, Claim, Tolerance, load_claims
from bench.reports.paper.render import as_json, as_markdown, difference, summary
from bench.rows.columns import COLUMNS, NAMES
from scripts import check_claims
from tests.conftest import ROOT, Run
from tests.support.commands import script_in_process

EMPTY = pd.DataFrame(columns=list(NAMES)).astype({column.name: column.dtype for column in COLUMNS})
HALF = Tolerance(within=0.5, of="absolute", why="half a digit")


def claim(**changes: Any) -> Claim:
    values: dict[str, Any] = {
        "id": "x", "paper": "P", "figure": "F", "claim": "A sentence.", "printed": 10.0, "unit": "requests",
        "kind": "allocation", "run": "python x", "source": "text", "answer": AnswerCells(figure="f", value="v"),
        "tolerance": HALF,
    }  # fmt: skip
    return Claim(**(values | changes))


def frame(*values: float | None, **columns: Any) -> pd.DataFrame:
    return pd.DataFrame({"v": pd.Series(values, dtype=float), **columns})


def test_the_claims_are_valid_and_every_answer_is_in_a_figure() -> None:
    claims = load_claims()
    assert len(claims) > 30
    known = {figure.name for figure in all_figures()}
    for one in claims:
        assert one.answer is None or one.answer.figure in known, one.id
        assert one.source
        assert one.run
        if one.run.startswith("python bench/run.py") and "experiment=" in one.run:
            name = one.run.partition("experiment=")[2].split()[0]
            assert (ROOT / "conf" / "experiment" / f"{name}.yaml").is_file(), one.id


def test_without_rows_each_claim_is_not_run_and_names_its_command() -> None:
    verdicts = judge_all(load_claims(), EMPTY, all_figures())
    assert {verdict.verdict for verdict in verdicts} == {"not run"}
    assert all(verdict.reason for verdict in verdicts)
    assert summary(verdicts) == f"{len(verdicts)} not run"


@pytest.mark.parametrize(
    ("change", "ours", "verdict"),
    [
        ({}, 10.5, "reproduced"),
        ({}, 10.51, "differs"),
        ({"kind": "modelled"}, 9.5, "reproduced (modelled)"),
        ({"kind": "construction"}, 10, "by construction"),
        ({"kind": "construction"}, 12, "differs"),
        ({"disputed": "others found 12"}, 12, "disputed"),
        ({"disputed": "others found 12"}, 10, "reproduced"),
        ({"tolerance": Tolerance(within=0.1, of="relative", why="so")}, 9.01, "reproduced"),
        ({"tolerance": Tolerance(within=0.1, of="relative", why="so")}, 8.99, "differs"),
        ({"printed": (2.0, 3.0), "tolerance": None}, 2.5, "reproduced"),
        ({"printed": (2.0, 3.0), "tolerance": None}, 3.01, "differs"),
        ({"answer": None}, 10, "not run"),
    ],
)
def test_a_verdict_follows_from_number_and_tolerance(change: dict[str, Any], ours: float, verdict: str) -> None:
    found = judge(claim(**change), frame(ours))
    assert found.verdict == verdict
    assert found.verdict in CLAIM_VERDICTS


def test_a_range_must_be_within_the_printed_one() -> None:
    spread = claim(printed=(2.0, 3.0), tolerance=None, answer=AnswerCells(figure="f", value="v", over="range"))
    assert judge(spread, frame(2.1, 2.9)).ours == (2.1, 2.9)
    assert judge(spread, frame(2.1, 2.9)).verdict == "reproduced"
    assert judge(spread, frame(2.1, 3.1)).verdict == "differs"
    most = claim(answer=AnswerCells(figure="f", value="v", over="max"))
    assert judge(most, frame(1, 10, None)).ours == 10
    share = claim(printed=1.0, tolerance=Tolerance(within=0, of="absolute", why="all"),
                  answer=AnswerCells(figure="f", value="v", over="all"))  # fmt: skip
    assert judge(share, frame(1, 1, 0, 1)).ours == 0.75


def test_real_lengths_come_before_the_stand_in_and_the_basis_is_named() -> None:
    both = frame(30, 10, lengths=[STAND_IN, "trace"])
    assert (judge(claim(), both).ours, judge(claim(), both).basis) == (10, "trace")
    assert judge(claim(), both.head(1)).basis == STAND_IN


def test_an_unanswerable_claim_is_an_error() -> None:
    with pytest.raises(ValueError, match="2 rows of f answer it, and they do not agree"):
        judge(claim(), frame(1, 2))
    with pytest.raises(ValueError, match="figure f has no column who"):
        judge(claim(answer=AnswerCells(figure="f", value="v", where={"who": 1})), frame(1))
    with pytest.raises(ValueError, match="figures that do not exist: nowhere"):
        judge_all([claim(answer=AnswerCells(figure="nowhere", value="v"))], EMPTY, all_figures())


@given(st.floats(-1e6, 1e6), st.floats(0, 1e3), st.floats(-1e6, 1e6))
def test_a_wider_tolerance_never_turns_reproduced_into_differs(printed: float, within: float, ours: float) -> None:
    narrow = claim(printed=printed, tolerance=Tolerance(within=within, of="absolute", why="so"))
    wide = dataclasses.replace(narrow, tolerance=Tolerance(within=2 * within, of="absolute", why="so"))
    if judge(narrow, frame(ours)).verdict == "reproduced":
        assert judge(wide, frame(ours)).verdict == "reproduced"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"printd": 3}, "claim a: printd is not known"),
        ({"kind": "guess"}, "claim a: kind=guess must be one of"),
        ({"tolerance": None}, "claim a: a printed range has no tolerance, and a single number needs one"),
        ({"printed": [1, 2]}, "claim a: a printed range has no tolerance"),
        ({"tolerance": {"within": 1, "of": "absolute", "why": ""}}, "tolerance.why must not be empty"),
        ({"answer": {"figure": "f", "value": "v", "over": "mode"}}, "answer.over=mode must be one of"),
        ({"answer": {"figure": "f"}}, "claim a: answer.value is missing"),
    ],
)
def test_a_wrong_claim_is_one_sentence(tmp_path: Path, change: dict[str, Any], sentence: str) -> None:
    good = {"id": "a", "paper": "P", "figure": "F", "claim": "C.", "printed": 1, "unit": "x", "kind": "allocation",
            "run": "python x", "source": "text", "tolerance": {"within": 1, "of": "absolute", "why": "so"}}  # fmt: skip
    path = tmp_path / "claims.yaml"
    path.write_text(yaml.safe_dump([good | change]))
    with pytest.raises(ValueError, match=sentence):
        load_claims(path)
    path.with_name("twice.yaml").write_text(yaml.safe_dump([good, good]))
    with pytest.raises(ValueError, match="id=a comes twice"):
        load_claims(path.with_name("twice.yaml"))


def test_json_markdown_and_differences() -> None:
    shares = judge(claim(id="y", unit="% of it"), frame(10.4))
    verdicts = [judge(claim(), frame(12)), shares, judge(claim(id="z"), None)]
    plain = json.loads(as_json(verdicts))
    assert [one["verdict"] for one in plain] == ["differs", "reproduced", "not run"]
    assert {"id", "paper", "figure", "printed", "ours", "verdict", "reason"} <= set(plain[0])
    assert [difference(verdict) for verdict in verdicts] == ["+20.0 %", "+0.4 points", ""]
    text = as_markdown(verdicts)
    assert text.count("\n|") == 4
    assert "1 reproduced, 1 differs, 1 not run." in text
    assert "- F, A sentence. *differs*" in text


def test_the_command_prints_one_list_and_its_exit_code_depends_on_fail(bench: Run, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert bench("-m", "experiment=paper_fig03", "draw=false", f"run_dir={run}").returncode == 0

    def check(*words: str) -> subprocess.CompletedProcess[str]:
        return script_in_process(check_claims, *words)

    done = check(str(run), "--json")
    listed = {one["id"]: one for one in json.loads(done.stdout)}
    assert (done.returncode, len(listed)) == (0, len(load_claims()))
    assert (listed["fig3-a"]["ours"], listed["fig3-a"]["verdict"]) == (2038, "reproduced")
    assert check(str(run), "--fail").returncode == 4, "others were not run"
    only = tmp_path / "claims.yaml"
    mine = [item for item in yaml.safe_load(CLAIMS.read_text()) if item["id"] == "fig3-a"]
    only.write_text(yaml.safe_dump(mine))
    assert check(str(run), "--fail", "--claims", str(only)).returncode == 0
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(yaml.safe_dump([mine[0] | {"printed": 3}]))
    assert check(str(run), "--fail", "--claims", str(wrong)).returncode == 3
    assert check(str(tmp_path / "nowhere")).returncode == 2
