"""Every YAML of conf/ composes and names its command, and every experiment runs in its smallest form."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from bench.config import build
from bench.plan.points import Composed, make_plan
from tests.support.points import planned, row_of, values

CONF = Path(__file__).resolve().parent.parent / "conf"
TRACE = Path(__file__).resolve().parent / "workload" / "fixtures" / "mooncake.jsonl"
GROUPS = ("impl", "policy", "model", "workload", "scenario", "measure", "hardware", "cost")
EXPERIMENTS = sorted(path.stem for path in (CONF / "experiment").glob("*.yaml"))
OPTIONS = [f"{group}={path.stem}" for group in GROUPS for path in sorted((CONF / group).glob("*.yaml"))]


@pytest.mark.parametrize("option", OPTIONS)
def test_every_group_option_composes(option: str) -> None:
    changes: dict[str, Any] = {"workload": {"path": "trace.csv"}} if option == "workload=trace" else {}
    config = build(values(option, **changes))
    group, name = option.split("=")
    assert getattr(config, group).name == name, "the file's name is the option's"


@pytest.mark.parametrize("path", sorted(CONF.rglob("*.yaml")), ids=lambda path: str(path.relative_to(CONF)))
def test_every_file_opens_with_its_command_or_its_purpose(path: Path) -> None:
    # Hydra reads its own header only if it comes first.
    first = next(line for line in path.read_text().splitlines() if not line.startswith("# @package"))
    if "hydra/sweeper" in path.as_posix():
        assert first.startswith("# ")
    else:
        assert first.startswith("# python bench/run.py")
        assert path.parent == CONF or path.stem in first, "the command names this file"


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_no_experiment_overrides_impl_in_its_defaults(name: str) -> None:
    content = yaml.safe_load((CONF / "experiment" / f"{name}.yaml").read_text())
    defaults = [str(entry) for entry in content.get("defaults", [])]
    assert not any("override /impl" in entry or "'override /impl'" in entry for entry in defaults)


def _trace_of(name: str) -> list[str]:
    """A small trace for an experiment that leaves it to the command line."""
    defaults = yaml.safe_load((CONF / "experiment" / f"{name}.yaml").read_text()).get("defaults", [])
    return [f"workload.path={TRACE}"] if {"override /workload": "trace"} in defaults else []


def _axes(name: str) -> dict[str, list[str]]:
    content = yaml.safe_load((CONF / "experiment" / f"{name}.yaml").read_text())
    params = content.get("hydra", {}).get("sweeper", {}).get("params", {})
    return {key: re.split(r",", str(value)) for key, value in params.items()}


def _smallest(name: str, first: dict[str, Any]) -> dict[str, Any]:
    """Return the experiment's first point with little to do."""
    changes: dict[str, Any] = {"num_seqs": 2, "measure": values("measure=quick")["measure"]}
    changes["model"] = {**first["model"], "max_seq_len": 1024}
    if first["workload"].get("length", 0) > 1024:
        changes["workload"] = {**first["workload"], "length": 1024}
    axes = _axes(name)
    if "scenario.duration_s" in axes:
        changes["scenario"] = {**first["scenario"], "duration_s": 60}
    if (first["scenario"].get("layers_allocated") or 0) > 1:
        changes["scenario"] = {**first["scenario"], "layers_allocated": 1}
    if "scenario.linear_layers" in axes:
        changes["model"]["num_parameters"] = 1_000_000
        changes["workload"] = {**first["workload"], "length": 64}
    return {**first, **changes}


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_plans_and_runs_in_its_smallest_form(name: str) -> None:
    """In this process: a sweep around each experiment would take most of its time to start."""
    trace = _trace_of(name)
    plan = planned(f"experiment={name}", *trace, *(["num_seqs=2"] if trace else []))  # the small trace has few
    first = plan.points[0]
    small = Composed(overrides=first.overrides, values=_smallest(name, first.config.to_json()))
    (point,) = make_plan([small], [build(small.values)], "cpu").points
    row = row_of(point)
    assert row["status"] == "ok", row["status_reason"]
