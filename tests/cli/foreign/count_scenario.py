"""A scenario from outside the repository: parameters, a check when planned, and one process."""

from __future__ import annotations

import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bench.config import AnyScenario, Config, build
from bench.rows.result import Answer


@dataclass(frozen=True, kw_only=True)
class CountScenario(AnyScenario):
    """Count to a number."""

    name: typing.Literal["count"] = "count"
    up_to: int = 1


def predict(config: Config) -> None:
    """Refuse what cannot be counted."""
    assert isinstance(config.scenario, CountScenario)
    if config.scenario.up_to < 0:
        raise ValueError(f"scenario.up_to={config.scenario.up_to} must be at least 0")


def count(argument: Mapping[str, Any]) -> Answer:
    """Return the count as ``steps``."""
    scenario = build(argument["config"]).scenario
    assert isinstance(scenario, CountScenario)
    return Answer(values={"steps": sum(1 for _ in range(scenario.up_to))})
