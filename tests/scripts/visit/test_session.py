"""A visit survives what its steps do: it goes on, and what was measured is in its files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from scripts.gpu_session import environment
from scripts.visit import session as module
from scripts.visit.session import State, VisitSession
from scripts.visit.steps import Step
from scripts.visit.unpack import read_archive

WRITES = """
import sys, time, pathlib
out = pathlib.Path(sys.argv[sys.argv.index("--out") + 1])
(out / "result.txt").write_text("measured")
"""


def step(name: str, code: str, folder: Path, **fields: Any) -> Step:
    """A step whose command is a module with that code."""
    (folder / f"{name}_module.py").write_text(code)
    return Step(name=name, command=(f"{name}_module",), **{"min_s": 0.0, "max_s": 30.0, **fields})


def make(steps: list[Step], folder: Path, seconds: float = 60.0, **fields: Any) -> VisitSession:
    env = environment(None, os.environ, folder)
    env["PYTHONPATH"] = os.pathsep.join([env["PYTHONPATH"], str(folder)])
    (folder / "out").mkdir(exist_ok=True)
    return VisitSession(
        steps, work=folder / "work", out=folder / "out", device="cpu", deadline=time.monotonic() + seconds,
        env=env, small=True, overrides=(), **{"state": State(), **fields},
    )  # fmt: skip


def told(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "out" / "session.json").read_text())
    return content


def test_a_failing_step_does_not_end_the_visit_and_its_log_returns(tmp_path: Path) -> None:
    steps = [step("bad", "raise SystemExit('no such kernel')", tmp_path), step("good", WRITES, tmp_path)]
    outcomes = make(steps, tmp_path).run()
    assert {name: outcome.status for name, outcome in outcomes.items()} == {"bad": "failed", "good": "ok"}
    assert "no such kernel" in told(tmp_path)["steps"][0]["log_end"]
    files = read_archive(tmp_path / "out" / "visit.tar.gz")
    assert files["good/result.txt"] == b"measured"
    assert b"no such kernel" in files["logs/bad.log"]


def test_a_hanging_step_is_cut_with_all_that_it_started(tmp_path: Path) -> None:
    child = "import subprocess, sys, time\nsubprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
    steps = [step("hang", child + "print('begun', flush=True)\ntime.sleep(60)", tmp_path, max_s=4.0),
             step("good", WRITES, tmp_path)]  # fmt: skip
    began = time.monotonic()
    outcomes = make(steps, tmp_path).run()
    assert time.monotonic() - began < 30
    assert outcomes["hang"].status == "cut"
    assert "begun" in outcomes["hang"].log_end
    assert outcomes["good"].status == "ok"


def test_what_the_time_does_not_allow_is_not_run(tmp_path: Path) -> None:
    outcomes = make([step("long", WRITES, tmp_path, min_s=100.0)], tmp_path, seconds=50).run()
    assert outcomes["long"].status == "not run"
    assert told(tmp_path)["state"]["finished"] == []


def test_a_tool_that_is_not_there_is_no_failure(tmp_path: Path) -> None:
    assert make([step("tool", "raise SystemExit(3)", tmp_path)], tmp_path).run()["tool"].status == "absent"


def test_the_archive_is_there_before_a_step_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command may be killed at any time: what a long step has written so far is already in the archive."""
    monkeypatch.setattr(module, "PACK_EVERY_S", 0.5)
    code = WRITES + "time.sleep(5)\n(out / 'late.txt').write_text('late')"
    session = make([step("long", code, tmp_path)], tmp_path)
    seen: list[set[str]] = []
    save = session.save

    def noting() -> None:
        save()
        seen.append(set(read_archive(tmp_path / "out" / "visit.tar.gz")))

    monkeypatch.setattr(session, "save", noting)
    session.run()
    assert any("long/result.txt" in names and "long/late.txt" not in names for names in seen)


def test_a_second_visit_goes_on(tmp_path: Path) -> None:
    steps = [step("first", WRITES, tmp_path, first=True), step("bad", "raise SystemExit(1)", tmp_path),
             step("cut", "import time; time.sleep(60)", tmp_path, max_s=3.0)]  # fmt: skip
    make(steps, tmp_path).run()
    state = State.read(tmp_path / "out" / "session.json")
    assert state.finished == ["first", "bad"]
    again = {name: outcome.status for name, outcome in make(steps, tmp_path, state=state).run().items()}
    assert again == {"first": "ok", "bad": "done earlier", "cut": "cut"}
    repeated = make(steps[1:2], tmp_path, state=state, repeat=True).run()
    assert repeated["bad"].status == "failed"


def test_the_sweep_process_may_die(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dies = [sys.executable, "-c", "import sys; sys.stdin.readline(); sys.exit(7)"]
    session = make([Step(name="sweep", sweeps=(("seed=0",),), min_s=0.0), step("good", WRITES, tmp_path)], tmp_path)
    monkeypatch.setattr(session.sweeps, "command", dies)
    outcomes = session.run()
    assert outcomes["sweep"].status == "failed"
    assert outcomes["sweep"].answer == {"error": "the sweep process ended with exit code 7"}
    assert outcomes["good"].status == "ok"


def test_a_sweep_process_that_hangs_is_killed_and_its_rows_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "HANG_S", 1.0)
    points = tmp_path / "work" / "sweeps" / "sweep" / "points"
    points.mkdir(parents=True)
    (points / "aa-0.json").write_text('{"status": "unsupported"}')
    session = make([Step(name="sweep", sweeps=(("seed=0",),), min_s=0.0, max_s=1.0)], tmp_path)
    monkeypatch.setattr(session.sweeps, "command", [sys.executable, "-c", "import time; time.sleep(60)"])
    outcome = session.run()["sweep"]
    assert outcome.status == "cut"
    assert outcome.answer["error"].startswith("killed after ")
    assert outcome.answer["error"].endswith(": a point hangs. Finished points: 1")
    assert told(tmp_path)["state"] == {"finished": [], "done": {"sweep": ["aa-0"]}}


def test_each_key_is_given_once_to_hydra(tmp_path: Path) -> None:
    sweep = Step(name="sweep", sweeps=(("num_seqs=32", "impl=contiguous"),), small=("num_seqs=2", "timeout_s=4"))
    session = make([sweep], tmp_path)
    session.overrides = ["timeout_s=60", "draw=false"]
    assert session.request(sweep)["sweeps"] == [["impl=contiguous", "draw=false", "num_seqs=2", "timeout_s=4"]]


def test_a_background_command_is_stopped_while_times_are_taken(tmp_path: Path) -> None:
    stat = "import sys, pathlib\nout = pathlib.Path(sys.argv[sys.argv.index('--out') + 1])\n"
    looks = stat + "pid = (out.parent.parent / 'pid').read_text()\n"
    looks += "(out / 'state.txt').write_text(pathlib.Path(f'/proc/{pid}/stat').read_text().split()[2])"
    steps = [step("timed", looks, tmp_path), step("untimed", looks, tmp_path, takes_times=False)]
    session = make(steps, tmp_path)
    session.start_background("other", [sys.executable, "-c", "import time; time.sleep(60)"])
    (tmp_path / "pid").write_text(str(session.background["other"].pid))
    session.run()
    states = {name: (tmp_path / "work" / name / "state.txt").read_text() for name in ("timed", "untimed")}
    assert states["timed"] == "T"
    assert states["untimed"] in "SR"
    assert session.background["other"].poll() is not None


@pytest.mark.parametrize("text", ["", "[]", '{"state": {"finished": 3}}', '{"steps": []}'])
def test_a_state_must_be_a_sessions(tmp_path: Path, text: str) -> None:
    (tmp_path / "session.json").write_text(text)
    with pytest.raises(ValueError, match=r"is no session\.json of a visit"):
        State.read(tmp_path / "session.json")


@pytest.mark.slow
def test_the_rehearsal() -> None:
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run([sys.executable, "scripts/gpu_rehearsal.py"], cwd=root, capture_output=True, text=True,
                          check=False)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
