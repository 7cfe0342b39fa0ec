"""``scripts/ab.py`` and ``scripts/aa.py``: real revisions, real rounds."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest

from bench.ab import rounds, sweeps, worktrees
from bench.compare.load import load_side
from bench.compare.verdicts import noise
from bench.compare.verdicts.noise import read_floor
from scripts import aa, ab
from tests.conftest import ROOT

SMALL = ("scenario=churn", "policy=paged", "num_seqs=20", "workload=fixed", "workload.length=40", "memory_budget=16MiB",
         "draw=false")  # fmt: skip
DECODE = (
    "device=cpu",
    "impl=paged_torch",
    "page_size=4",
    "num_seqs=2",
    "workload=fixed",
    "workload.length=40",
    "measure=quick",
    "measure.weigh=false",
    "draw=false",
)
Command = Callable[..., int]


def is_checkout() -> bool:
    return subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, check=False).returncode == 0


pytestmark = pytest.mark.skipif(not is_checkout(), reason="this is no git checkout: there are no revisions")


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Command:
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    monkeypatch.setattr(noise, "FLOORS", tmp_path / "noise")
    monkeypatch.setattr(sweeps, "visible_gpus", list)  # nothing here is for a GPU
    # Worktrees in the test's own folder: other tests have some at the same time.
    own = SimpleNamespace(TemporaryDirectory=partial(tempfile.TemporaryDirectory, dir=tmp_path))
    monkeypatch.setattr(worktrees, "tempfile", own)

    def run(script: object, *arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", ["script", *map(str, arguments)])
        return script.main()  # type: ignore[attr-defined]

    return run


def test_a_revision_compared_with_itself_is_the_same(command: Command, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    assert command(ab, "HEAD", "--replicates", 1, "--kind", "exact", "--runs", runs, "--out", tmp_path / "out", "--",
                   *SMALL) == 0  # fmt: skip
    found = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert found["counts"]["same"] > 10
    assert found["counts"]["regressed"] + found["counts"]["inconclusive"] == 0
    base, candidate = (load_side(runs / name) for name in ("base", "candidate"))
    assert base.interleaved == candidate.interleaved is not None
    assert base.table["took_turns"].all()
    assert candidate.table["took_turns"].all()
    assert base.table["server_id"].iloc[0] != candidate.table["server_id"].iloc[0]
    listed = subprocess.run(["git", "worktree", "list"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert str(tmp_path) not in listed, "the worktrees are gone"
    assert command(ab, "HEAD", "--replicates", 1, "--kind", "exact", "--runs", runs, "--", *SMALL) == 2, "not twice"


@pytest.mark.parametrize("in_turn", [True, False])
def test_both_sides_time_decode_steps_with_and_without_turns(
    command: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, in_turn: bool
) -> None:
    monkeypatch.setattr(rounds, "one_at_a_time", lambda *_: None if in_turn else "a test says so")
    runs = tmp_path / "runs"
    assert command(ab, "HEAD", "--replicates", 1, "--kind", "exact", "--runs", runs, "--", *DECODE) == 0
    printed = capsys.readouterr().err
    assert ("one sweep after the other, A B B A: a test says so" in printed) is not in_turn
    for name in ("base", "candidate"):
        assert load_side(runs / name).table["took_turns"].tolist() == [in_turn]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("no-such-branch", "--", *SMALL), "no-such-branch is no revision"),
        (("HEAD", "--replicates", "4", "--", *SMALL), "--replicates 4 must be at least 5"),
        (("HEAD", "--confirm", "2", "--", *SMALL), "--confirm 2 must be at least 5"),
        (("HEAD", "--", "num_seqs=0"), ": num_seqs=0 must be at least 1"),
    ],
)
def test_bad_input(
    command: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], sentence: str
) -> None:
    assert command(ab, "--runs", tmp_path / "runs", *arguments) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert "Traceback" not in said


@pytest.mark.slow
def test_the_noise_floor_is_stored_under_the_fingerprint(command: Command, tmp_path: Path) -> None:
    assert command(aa, "--replicates", 5, "--runs", tmp_path / "runs", "--", *SMALL) == 0
    side = load_side(tmp_path / "runs" / "base")
    assert side.table["server_id"].nunique() == 5
    assert set(read_floor(side)) == {"replay_s"}
