"""From composed points to a plan: resolved, checked, keyed, without duplicates. No torch, no Hydra."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from bench.config import Config, build
from bench.plan.code_hash import point_code_hash
from bench.plan.predict import predict
from bench.plan.question import KEY_VERSION, effective, key_of, resolve

PLAN_VERSION = 2
"""Raised when a stored plan can no longer be run, because modules that it names have moved. Version 1 had no number."""


class Composed(Protocol):
    """What planning needs of a composed point."""

    @property
    def values(self) -> Mapping[str, Any]:
        """The configuration as plain containers."""

    @property
    def overrides(self) -> tuple[str, ...]:
        """The overrides that lead there."""


@dataclass(frozen=True, kw_only=True)
class Point:
    """One question of the plan.

    Attributes:
        key: hash of ``question``.
        question: effective parameters; what has no effect is null.
        values: resolved configuration in plain containers, for the point's processes.
        overrides: what re-creates it on a command line.
        predicted: sizes known before running (``bench.plan.predict.Prediction``).
        skip_status: the status of its rows if it will not be run, else ``None``.
        skip_reason: why not.
        code_hash: of the sources that will answer it.
    """

    key: str
    question: Mapping[str, Any]
    values: Mapping[str, Any]
    overrides: tuple[str, ...]
    predicted: Mapping[str, int]
    skip_status: str | None
    skip_reason: str | None
    code_hash: str

    @property
    def config(self) -> Config:
        """The resolved configuration."""
        return build(self.values)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything that a run will do, before it does any of it."""

    points: tuple[Point, ...]
    replicates: int
    merged: int  # points that asked the same question as an earlier one
    config_dirs: tuple[str, ...] = ()  # --config-dir folders, on the import path of every process
    warnings: tuple[str, ...] = ()  # axes that cannot show what they seem to
    key_version: int = KEY_VERSION
    plan_version: int = PLAN_VERSION

    def jobs(self) -> list[tuple[Point, int]]:
        """(point, replicate), round by round, so that the replicates of a point are interleaved."""
        return [(point, replicate) for replicate in range(self.replicates) for point in self.points]

    def with_present_code(self) -> Plan:
        """The same questions, to the code as it stands now (a resumed, mixed run)."""
        points = tuple(dataclasses.replace(point, code_hash=point_code_hash(point.config)) for point in self.points)
        return dataclasses.replace(self, points=points)

    def to_json(self) -> dict[str, Any]:
        """Plain containers for ``plan.json``."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Plan:
        """The plan that ``to_json`` wrote."""
        points = tuple(Point(**{**point, "overrides": tuple(point["overrides"])}) for point in content["points"])
        lists = {name: tuple(content[name]) for name in ("config_dirs", "warnings")}
        version = content.get("plan_version", 1)
        return cls(**{**content, "points": points, **lists, "plan_version": version})


def read_plan(run_dir: Path) -> Plan:
    """The plan of a run folder.

    Raises:
        ValueError: the folder has none.
    """
    path = run_dir / "plan.json"
    if not path.is_file():
        raise ValueError(f"{run_dir} is no run folder: it has no plan.json")
    return Plan.from_json(json.loads(path.read_text(encoding="utf-8")))


def make_plan(
    composed: Iterable[Composed], configs: Iterable[Config], device: str | None, device_memory: int | None = None
) -> Plan:
    """Resolve, key and check every point; keep the first of equal questions.

    Args:
        composed: the points, in order.
        configs: the same, checked.
        device: what ``device=auto`` means here, ``cpu`` or ``cuda``; ``None`` without tensors.
        device_memory: bytes of that device, if known.

    Raises:
        ValueError: a point is wrong by itself, or no point of the plan can run.
    """
    points: dict[str, Point] = {}
    total = 0
    for source, config in zip(composed, configs, strict=True):
        total += 1
        resolved = resolve(config, device)
        question = effective(resolved)
        key = key_of(question)
        if key not in points:
            points[key] = _make_point(source, resolved, question, device_memory)
    plan = Plan(points=tuple(points.values()), replicates=config.replicates, merged=total - len(points))
    if all(point.skip_status == "unsupported" for point in plan.points):
        raise ValueError(f"no point of the plan can run: {plan.points[0].skip_reason}")
    return plan


def _make_point(source: Composed, config: Config, question: Mapping[str, Any], device_memory: int | None) -> Point:
    prediction = predict(config, device_memory)
    return Point(
        key=key_of(question),
        question=question,
        values=config.to_json(),
        overrides=source.overrides,
        predicted=prediction.sizes,
        skip_status=prediction.status,
        skip_reason=prediction.reason,
        code_hash=point_code_hash(config),
    )
