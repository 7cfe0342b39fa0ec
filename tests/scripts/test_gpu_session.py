"""The visit to a GPU, without one: what runs in which order, what is cut, what is listed as not run."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def session() -> ModuleType:
    path = Path(__file__).resolve().parents[2] / "scripts" / "gpu_session.py"
    spec = importlib.util.spec_from_file_location("gpu_session", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["gpu_session"] = module  # its dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_correctness_comes_first_then_calibration_then_the_sweeps(session: ModuleType, tmp_path: Path) -> None:
    planned = session.steps(tmp_path, "cuda", small=False, dry_run=False)
    names = [step.name for step in planned if not step.name.endswith("report")]
    assert names == [
        "tests", "calibration", "default", "layout", "page_size", "implementations", "batch_length", "fig18a",
        "prefill", "fig19a", "fig19a_recompute", "swap", "short_contexts", "batch", "length", "capacity",
    ]  # fmt: skip
    assert all("device=cuda" in step.command for step in planned if "bench/run.py" in step.command)
    root = Path(session.ROOT)
    assert all((root / test).exists() for test in session.TESTS)
    for overrides in session.SWEEPS.values():
        for override in overrides:
            assert (root / "conf" / "experiment" / f"{override.removeprefix('experiment=')}.yaml").is_file()


def test_what_does_not_fit_is_cut_or_not_run_and_said(
    session: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "KILL_GRACE_S", 20.0)
    (tmp_path / "logs").mkdir()
    waits = "import time\ntry:\n    time.sleep(60)\nexcept KeyboardInterrupt:\n    print('rows are whole')"
    planned = [
        session.Step(name="good", command=(sys.executable, "-c", "print('done')"), least_s=0.1),
        session.Step(name="bad", command=(sys.executable, "-c", "raise SystemExit(3)"), least_s=0.1),
        session.Step(name="long", command=(sys.executable, "-c", waits), least_s=0.1),
        session.Step(name="late", command=(sys.executable, "-c", "print()"), least_s=0.1),
    ]
    outcomes = session.run_steps(planned, tmp_path, time.monotonic() + 6, session.environment(None, tmp_path))
    assert [outcome.status for outcome in outcomes] == ["ok", "failed", "cut", "not run"]
    assert (tmp_path / "logs" / "long.log").read_text() == "rows are whole\n"
    saved = json.loads((tmp_path / "session.json").read_text())
    assert [(step["name"], step["status"]) for step in saved][-1] == ("late", "not run")


def test_one_step_cannot_take_the_whole_visit(session: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    waits = "import time\ntry:\n    time.sleep(60)\nexcept KeyboardInterrupt:\n    pass"
    planned = [
        session.Step(name="long", command=(sys.executable, "-c", waits), least_s=0.1, most_s=2.0),
        session.Step(name="next", command=(sys.executable, "-c", "print()"), least_s=0.1),
    ]
    outcomes = session.run_steps(planned, tmp_path, time.monotonic() + 60, session.environment(None, tmp_path))
    assert [outcome.status for outcome in outcomes] == ["cut", "ok"]


def test_a_sweep_that_was_not_run_has_no_report(session: ModuleType, tmp_path: Path) -> None:
    step = session.Step(name="report", command=(sys.executable, "-c", ""), least_s=0.1, needs=tmp_path / "missing")
    (outcome,) = session.run_steps([step], tmp_path, time.monotonic() + 60, {})
    assert outcome.status == "not run"


def test_carried_wheels_are_importable(session: ModuleType, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "carried-1-py3-none-any.whl", "w") as wheel:
        wheel.writestr("carried.py", "word = 'here'")
    env = session.environment(tmp_path, tmp_path)
    said = subprocess.run([sys.executable, "-c", "import carried; print(carried.word)"], env=env, check=True,
                          capture_output=True, text=True)  # fmt: skip
    assert said.stdout == "here\n"


@pytest.mark.slow
@pytest.mark.parametrize("mode", [["--dry-run"], ["--small"]])
def test_the_whole_visit_on_a_cpu(session: ModuleType, tmp_path: Path, mode: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "scripts/gpu_session.py", "--minutes", "30", "--device", "cpu", *mode, "--out", str(tmp_path)],
        cwd=session.ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    statuses = {step["name"]: step["status"] for step in json.loads((tmp_path / "session.json").read_text())}
    assert set(statuses.values()) == {"ok"}, (statuses, done.stdout)
