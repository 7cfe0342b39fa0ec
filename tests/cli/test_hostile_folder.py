"""A run folder of another person is data: no field of it imports a module, runs a function or leaves the folder."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.plan.question import key_of
from tests.conftest import ROOT, Run

SWEEP = ("scenario=notebook", "scenario.num_sequences=10", "scenario.num_sequences_list=[5]", "draw=false")
Edit = Callable[[dict[str, Any], Path], None]


@pytest.fixture(scope="module")
def one_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("one") / "run"
    command = [sys.executable, "bench/run.py", "-m", *SWEEP, f"run_dir={run_dir}"]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return run_dir


@pytest.fixture
def hostile(one_run: Path, tmp_path: Path) -> Path:
    """Return a run folder with a pending job and a module that leaves a mark when it is imported."""
    folder = shutil.copytree(one_run, tmp_path / "run")
    for row in (folder / "points").iterdir():
        row.unlink()
    plant = f"from pathlib import Path\nPath({str(tmp_path / 'IMPORTED')!r}).touch()\n"
    package = folder / "evilpkg"
    package.mkdir()
    for name in ("__init__.py", "mod.py"):
        (package / name).write_text(plant + "def run(argument): pass\n")
    for name in ("evil2.py", "sitecustomize.py", "usercustomize.py", "psutil.py"):
        (folder / name).write_text(plant + "def run(argument): pass\n")
    for group in ("scenario", "impl"):
        (folder / group).mkdir()
        (folder / group / "evil.yaml").write_text("name: evil\ntarget: evilpkg.mod.Evil\n")
    return folder


def _set(group: str, **changes: Any) -> Edit:
    def edit(plan: dict[str, Any], folder: Path) -> None:
        plan["points"][0]["values"][group].update(changes)

    return edit


def _config_dirs(plan: dict[str, Any], folder: Path) -> None:
    plan["config_dirs"] = [str(folder)]


def _folder_and_implementation(plan: dict[str, Any], folder: Path) -> None:
    plan["config_dirs"] = [str(folder)]
    _set("impl", name="evil", target="evilpkg.mod.Evil")(plan, folder)


def _key_outside(plan: dict[str, Any], folder: Path) -> None:
    plan["points"][0]["key"] = "../../X/x"


def _other_key(plan: dict[str, Any], folder: Path) -> None:
    plan["points"][0]["key"] = "0" * 16


def _other_values(plan: dict[str, Any], folder: Path) -> None:
    plan["points"][0]["values"]["seed"] = 77


def _override(text: str) -> Edit:
    def edit(plan: dict[str, Any], folder: Path) -> None:
        plan["points"][0]["overrides"].append(text.format(folder=folder))

    return edit


def _rehashed_question(plan: dict[str, Any], folder: Path) -> None:
    question = plan["points"][0]["question"]
    question["scenario"]["name"] = "evil"
    plan["points"][0]["key"] = key_of(question)


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        (_config_dirs, "If you trust the folder, give this option again"),
        (_folder_and_implementation, "give this option again"),
        (_set("scenario", processes=["evil2:run"]), "scenario.processes=['evil2:run'] must be"),
        (_set("scenario", processes="evil2:run"), "scenario.processes='evil2:run' must be a list"),
        (_set("scenario", target="evilpkg.mod.Evil"), "scenario.target=evilpkg.mod.Evil must be"),
        (_set("scenario", predict="evil2:run"), "scenario.predict=evil2:run must be"),
        (_set("scenario", name="evil"), "scenario.name=evil is not declared"),
        (_set("impl", target="evilpkg.mod.Evil"), "impl.target=evilpkg.mod.Evil must be"),
        (_set("policy", target="evilpkg.mod.Evil", kind="paged"), "policy.target=evilpkg.mod.Evil must be"),
        (_override("scenario.target=evilpkg.mod.Evil"), "is not allowed in a stored plan"),
        (_override("hydra.searchpath=[file://{folder}]"), "is not allowed in a stored plan"),
        (_override("impl=../../{folder}/impl/evil"), "is not allowed in a stored plan"),
        (_override("model@impl=tiny"), "is not allowed in a stored plan"),
        (_key_outside, "points[0].key='../../X/x' must be text that matches"),
        (_other_key, "is not the hash of its question"),
        (_other_values, "do not give its key"),
        (_rehashed_question, "do not give its key"),
    ],
)
def test_no_edit_of_a_plan_runs_code(bench: Run, hostile: Path, tmp_path: Path, edit: Edit, sentence: str) -> None:
    _assert_refused(bench, hostile, tmp_path, edit, sentence, "dry_run=true")


@pytest.mark.parametrize("control", ["draw=false", "hydra/launcher=basic"])
@pytest.mark.parametrize("edit", [_folder_and_implementation, _key_outside, _set("scenario", processes=["evil2:run"])])
def test_no_resume_runs_code(bench: Run, hostile: Path, tmp_path: Path, edit: Edit, control: str) -> None:
    _assert_refused(bench, hostile, tmp_path, edit, "plan.json", control)


def _assert_refused(bench: Run, hostile: Path, tmp_path: Path, edit: Edit, sentence: str, control: str) -> None:
    path = hostile / "plan.json"
    plan = json.loads(path.read_text())
    edit(plan, hostile)
    path.write_text(json.dumps(plan))
    before = sorted(tmp_path.rglob("*"))
    done = bench(f"resume={hostile}", control, cwd=hostile)
    assert done.returncode == 2, done.stdout + done.stderr
    assert sentence in done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert sorted(tmp_path.rglob("*")) == before, "no module was imported and no file was made"


def test_a_folder_with_planted_modules_is_resumed_without_them(bench: Run, hostile: Path, tmp_path: Path) -> None:
    done = bench(f"resume={hostile}", "draw=false", cwd=hostile)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "IMPORTED").exists()


def test_a_config_dir_is_honoured_when_it_is_given_again(bench: Run, tmp_path: Path) -> None:
    foreign, run_dir = str(ROOT / "tests" / "cli" / "foreign"), tmp_path / "run"
    first = bench(f"--config-dir={foreign}", "-m", "scenario=count", f"run_dir={run_dir}", "draw=false")
    assert first.returncode == 0, first.stderr
    (row,) = (run_dir / "points").iterdir()
    row.unlink()
    refused = bench(f"resume={run_dir}")
    assert refused.returncode == 2
    assert f"--config-dir={foreign}" in refused.stderr
    again = bench(f"--config-dir={foreign}", f"resume={run_dir}", "draw=false")
    assert again.returncode == 0, again.stderr
    assert row.exists()
