"""Composed points for the tests: the real ``conf/``, through Hydra's own compose."""

from __future__ import annotations

import copy
from functools import lru_cache
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from bench.config import build
from bench.plan import Plan, make_plan

CONF = Path(__file__).resolve().parents[2] / "conf"


@lru_cache
def _composed(overrides: tuple[str, ...]) -> dict[str, Any]:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("config", list(overrides))
    return dict(OmegaConf.to_container(cfg, resolve=True))  # type: ignore[arg-type]


def values(*overrides: str, **changes: Any) -> dict[str, Any]:
    """A composed configuration as plain containers, with changes; a group's change is merged into it."""
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
