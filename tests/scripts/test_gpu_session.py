"""The steps of a visit to a GPU: their order, what a command line chooses, and plans without a GPU."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.visit.steps import FAST, SMALL, STEPS, chosen
from scripts.visit.sweeps import PRELOADED, preloadable
from scripts.visit.tests import OTHERS, TIMERS, command

ROOT = Path(__file__).resolve().parents[2]


def session(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "scripts/gpu_session.py", *arguments], cwd=ROOT, capture_output=True,
                          text=True, check=False)  # fmt: skip


def test_what_is_worth_most_comes_first() -> None:
    names = [step.name for step in STEPS]
    assert names[:10] == ["facts", "check", "kernels", "flagship", "flashinfer", "memory", "ragged", "fig18a", "fig18b",
                         "batch_length"]  # fmt: skip
    assert set(names[9:]) >= {"fig19a", "prefill", "calibration", "sanitizer", "tests", "tiles", "ncu"}


def test_a_step_is_a_sweep_or_a_command_of_a_module_that_exists() -> None:
    for step in STEPS:
        assert bool(step.sweeps) != bool(step.command), step.name
        for module in step.command[:1]:
            assert importlib.util.find_spec(module), module
        for override in (part for sweep in step.sweeps for part in sweep):
            key, _, value = override.partition("=")
            assert key != "experiment" or (ROOT / "conf" / "experiment" / f"{value}.yaml").is_file()


def test_all_of_a_visits_paths_and_modules_exist() -> None:
    assert all((ROOT / test).exists() for test in (*TIMERS, *OTHERS))
    assert all(importlib.util.find_spec(module) for module in PRELOADED)


@pytest.mark.parametrize("workers", [1, 2])
def test_pytest_starts_with_workers_and_without_pytest_benchmark(workers: int, tmp_path: Path) -> None:
    # Some versions of that plugin end a parallel run whose warnings are errors.
    (test := tmp_path / "test_tiny.py").write_text(
        "def test_one(pytestconfig):\n    assert not pytestconfig.pluginmanager.has_plugin('benchmark')\n"
    )
    words = command(tmp_path / "out.xml", (str(test),), workers=workers)
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert 'tests="1"' in (tmp_path / "out.xml").read_text()


def test_a_module_that_is_not_there_is_not_preloaded(capsys: pytest.CaptureFixture[str]) -> None:
    assert preloadable(["json", "no.such.module", "nor_this"]) == ["json"]
    assert "there is no module no.such.module" in capsys.readouterr().err


def test_steps_are_chosen_by_name_and_keep_their_order() -> None:
    assert [step.name for step in chosen("tiles,facts", None)] == ["facts", "tiles"]
    assert chosen(None, "flashinfer")[0].name == "memory"
    assert [step.name for step in chosen("facts,prefill", "fig18a")] == ["prefill"]


@pytest.mark.parametrize(("only", "after", "option"), [("fact", None, "--only fact"), (None, "nowhere", "--after")])
def test_an_unknown_step_is_named(only: str | None, after: str | None, option: str) -> None:
    with pytest.raises(ValueError, match=f"{option}.* is no step; the steps are facts, check"):
        chosen(only, after)


def test_a_short_point_measures_time_only() -> None:
    assert {"measure=visit", "timeout_s=60", "draw=false"} <= set(FAST)
    assert "measure.weigh=false" in SMALL


@pytest.mark.parametrize("small", [[], ["--small"]])
def test_a_plan_for_an_h100_needs_no_gpu(small: list[str]) -> None:
    done = session("--dry-run", "--assume", "h100", "--only", "flagship,fig18a", *small)
    assert done.returncode == 0, done.stderr
    assert "0 points will not run" in done.stdout
    assert done.stdout.rstrip().endswith("points to run")


def test_bad_input_is_one_sentence() -> None:
    assert session("--only", "nothing", "--out", "x").stderr.startswith("error: --only nothing is no step")
    assert session().stderr == "error: --out is missing; give the folder for visit.tar.gz and session.json\n"


@pytest.mark.slow
def test_the_whole_visit_on_a_cpu(tmp_path: Path) -> None:
    done = session("--minutes", "20", "--device", "cpu", "--small", "--out", str(tmp_path), "--after", "tiles")
    assert done.returncode == 0, done.stdout
    assert (tmp_path / "visit.tar.gz").is_file()
