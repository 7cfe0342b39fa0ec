"""The workflow in the repository: YAML whose commands the scripts of this checkout take."""

from __future__ import annotations

import shlex
import sys
from typing import Any

import pytest
import yaml

from scripts import ab, compare_runs, reference
from tests.conftest import ROOT

TEXT = (ROOT / ".github" / "workflows" / "bench.yml").read_text()
COMMENTED = TEXT.split("  # gpu:\n")[1]
GPU = yaml.safe_load("gpu:\n" + "".join(line.removeprefix("  # ") + "\n" for line in COMMENTED.splitlines()))
WHOLE: dict[str, Any] = yaml.safe_load(TEXT)
STEPS = [step for job in (*WHOLE["jobs"].values(), GPU["gpu"]) for step in job["steps"]]
COMMANDS = [shlex.split(step["run"]) for step in STEPS if "scripts/ab.py" in step.get("run", "")]


def test_the_workflow_has_a_gate_and_a_commented_gpu_job() -> None:
    assert set(WHOLE["jobs"]) == {"compare"}
    assert len(COMMANDS) == 3
    assert GPU["gpu"]["runs-on"] == ["self-hosted", "gpu"]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda words: words[-1])
def test_its_commands_are_valid(command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(ab, "_ab", lambda arguments, overrides: seen.append((arguments, overrides)) or 0)
    monkeypatch.setattr(sys, "argv", command[1:])
    assert ab.main() == 0
    ((arguments, overrides),) = seen
    assert (arguments.base, arguments.candidate) == ("$BASE", "$HEAD")
    assert arguments.replicates >= (1 if arguments.kind == ["exact"] else 5)
    assert all("=" in override for override in overrides)
    assert overrides


def test_the_commands_that_make_and_compare_the_reference_are_valid(monkeypatch: pytest.MonkeyPatch) -> None:
    (lines,) = [step["run"].splitlines() for step in STEPS if "scripts/reference.py" in step.get("run", "")]
    make, judge = (shlex.split(line) for line in lines)
    seen: list[Any] = []
    monkeypatch.setattr(reference, "_make", lambda folder, *, renew: seen.append((folder, renew)) or 0)
    monkeypatch.setattr(compare_runs, "_compare", lambda arguments: seen.append(arguments) or 0)
    for script, command in ((reference, make), (compare_runs, judge)):
        monkeypatch.setattr(sys, "argv", command[1:])
        assert script.main() == 0
        assert (ROOT / command[1]).is_file()
    (folder, renew), arguments = seen
    assert not renew
    assert (arguments.candidate, arguments.kind) == (folder, ["exact"])
    assert (ROOT / arguments.base / "plan.json").is_file()
