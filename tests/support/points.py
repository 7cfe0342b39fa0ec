"""Composed points for the tests: the real ``conf/``, through Hydra's own compose."""

from __future__ import annotations

import contextlib
import copy
import importlib
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf, open_dict

from bench.config import build
from bench.plan import expand
from bench.plan.points import Plan, Point, make_plan
from bench.rows.record import complete
from bench.rows.result import Answer
from bench.runner.row import make_row

CONF = Path(__file__).resolve().parents[2] / "conf"


@contextlib.contextmanager
def composing() -> Iterator[None]:
    """Start Hydra on the real ``conf/``. An earlier test that was interrupted may have left Hydra started."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield


@lru_cache
def _composed(overrides: tuple[str, ...]) -> dict[str, Any]:
    with composing():
        cfg = compose("config", list(overrides))
    return dict(OmegaConf.to_container(cfg, resolve=True))  # type: ignore[arg-type]


def values(*overrides: str, **changes: Any) -> dict[str, Any]:
    """Return a composed configuration as plain containers, with changes merged into its groups."""
    composed = copy.deepcopy(_composed(overrides))
    for name, change in changes.items():
        same_member = isinstance(change, dict) and change.get("name", composed[name]["name"]) == composed[name]["name"]
        composed[name] = {**composed[name], **change} if same_member else change
    return composed


class Composed:
    """What ``make_plan`` takes."""

    def __init__(self, *overrides: str, **changes: Any) -> None:
        self.overrides = overrides
        self.values = values(*overrides, **changes)


def plan_of(*points: Composed, device: str = "cpu") -> Plan:
    """The plan of some composed points."""
    return make_plan(points, [build(point.values) for point in points], device)


def expanded(*overrides: str) -> list[expand.Composed]:
    """The points of a command line as the sweeper makes them, which is far cheaper than composing each."""
    with composing():
        plain = [override for override in overrides if "," not in override]  # the others are axes
        master = compose("config", plain, return_hydra_config=True)
        with open_dict(master):
            master.hydra.job.config_name = "config"
        params = {key: str(value) for key, value in master.hydra.sweeper.params.items()}
        return expand.expand(GlobalHydra.instance().config_loader(), master, params, overrides)


@lru_cache
def planned(*overrides: str) -> Plan:
    """Return the plan of a command line for a CPU. Test modules of one process share it."""
    points = expanded(*overrides)
    return make_plan(points, [build(point.values) for point in points], "cpu")


def row_of(point: Point) -> dict[str, Any]:
    """The row of a point whose processes ran in this one: a sweep around each would take most of its time to start."""
    argument = {"config": point.config.to_json(), "ceiling_gbps": None}
    calls = [call.partition(":") for call in point.config.scenario.processes]
    answers = [getattr(importlib.import_module(module), function)(argument) for module, _, function in calls]
    facts = dict.fromkeys(("server_id", "fingerprint", "code_hash", "repro_command"), "of the test")
    facts |= dict.fromkeys(("harness_s", "measured_s"), 0.0) | dict.fromkeys(("rounds_interleaved", "mixed"), True)
    return complete(make_row(point, 0, Answer.merged(answers), facts))
