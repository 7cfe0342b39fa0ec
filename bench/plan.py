"""From composed points to a plan: resolved, checked, keyed, without duplicates. No torch, no Hydra."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

from bench.config import Config, PolicyConfig, TraceWorkload, build
from bench.scenarios.filling import CannotRun, draw, fill
from bench.units import parse_bytes
from bench.workload.traces import file_sha256
from impls.spec import ceil_div

KEY_VERSION = 1
"""Raised when a default changes: equal keys must go on meaning equal questions."""


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
        predicted: bytes known before running: ``pool_bytes`` and ``storage_bytes``.
        unsupported: why it cannot run, or ``None``.
    """

    key: str
    question: Mapping[str, Any]
    values: Mapping[str, Any]
    overrides: tuple[str, ...]
    predicted: Mapping[str, int]
    unsupported: str | None

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
    key_version: int = KEY_VERSION

    def jobs(self) -> list[tuple[Point, int]]:
        """(point, replicate), round by round, so that the replicates of a point are interleaved."""
        return [(point, replicate) for replicate in range(self.replicates) for point in self.points]

    def to_json(self) -> dict[str, Any]:
        """Plain containers for ``plan.json``."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Plan:
        """The plan that ``to_json`` wrote."""
        points = tuple(Point(**{**point, "overrides": tuple(point["overrides"])}) for point in content["points"])
        return cls(**{**content, "points": points, "config_dirs": tuple(content["config_dirs"])})


def read_plan(run_dir: Path) -> Plan:
    """The plan of a run folder.

    Raises:
        ValueError: the folder has none.
    """
    path = run_dir / "plan.json"
    if not path.is_file():
        raise ValueError(f"{run_dir} is no run folder: it has no plan.json")
    return Plan.from_json(json.loads(path.read_text(encoding="utf-8")))


def needs_tensors(configs: Iterable[Config]) -> bool:
    """Whether any point touches a device."""
    return any(config.scenario.tensors for config in configs)


def make_plan(composed: Iterable[Composed], configs: Iterable[Config], device: str | None) -> Plan:
    """Resolve, key and check every point; keep the first of equal questions.

    Args:
        composed: the points, in order.
        configs: the same, checked.
        device: what ``device=auto`` means here, ``cpu`` or ``cuda``; ``None`` without tensors.

    Raises:
        ValueError: a point is wrong by itself, or no point of the plan can run.
    """
    points: dict[str, Point] = {}
    total = 0
    for source, config in zip(composed, configs, strict=True):
        total += 1
        point = _make_point(source, resolve(config, device))
        points.setdefault(point.key, point)
    plan = Plan(points=tuple(points.values()), replicates=config.replicates, merged=total - len(points))
    reasons = [point.unsupported for point in plan.points]
    if all(reasons):
        raise ValueError(f"no point of the plan can run: {reasons[0]}")
    return plan


def resolve(config: Config, device: str | None) -> Config:
    """Replace every ``auto`` by what it means: device, policy, memory budget."""
    policy = config.policy
    if policy.name == "auto":
        policy = PolicyConfig(name=config.impl.policies[0] if config.scenario.tensors else "paged",
                              watermark=policy.watermark)  # fmt: skip
    if config.device == "auto":
        config = dataclasses.replace(config, device=device or "cpu")
    return dataclasses.replace(config, policy=policy, memory_budget=str(_budget_bytes(config, policy)))


def _budget_bytes(config: Config, policy: PolicyConfig) -> int:
    """``auto`` holds ``num_seqs`` sequences of the model's longest length in whole pages."""
    if config.memory_budget != "auto":
        return parse_bytes(config.memory_budget, "memory_budget")
    granule = 1 if policy.name.startswith("reserved") else config.page_size
    return config.num_seqs * ceil_div(config.model.max_seq_len, granule) * granule * config.model.token_bytes


def _make_point(source: Composed, config: Config) -> Point:
    question = effective(config)
    key = hashlib.sha256(json.dumps([KEY_VERSION, question], sort_keys=True).encode()).hexdigest()[:16]
    predicted, unsupported = _predict(config)
    return Point(
        key=key,
        question=question,
        values=config.to_json(),
        overrides=source.overrides,
        predicted=predicted,
        unsupported=unsupported,
    )


def effective(config: Config) -> dict[str, Any]:
    """What the point asks: effective parameters only, sizes as bytes, a trace by its content.

    Fields at the default of their dataclass are left out, so that a new option keeps old keys.
    """
    scenario, policy = config.scenario, config.policy
    question: dict[str, Any] = {
        "scenario": _differing(scenario, without=("processes", "tensors", "ignores")),
        "impl": {"name": config.impl.name, **({"options": dict(config.impl.options)} if config.impl.options else {})},
        "policy": _differing(policy, without=("ignores",)),
        "model": _differing(config.model, without=("name",)),
        "workload": _workload(config),
        "measure": _differing(config.measure, without=("name",)),
        "device": config.device,
        "memory_budget_bytes": parse_bytes(config.memory_budget, "memory_budget"),
        **{name: getattr(config, name) for name in ("page_size", "page_layout", "num_seqs", "seed")},
    }
    if config.page_layout != "aged":
        question["scenario"].pop("aged_turnovers", None)
    if config.page_layout != "shared_prefix":
        question["scenario"].pop("shared_prefix_tokens", None)
    for name in ignored(config):
        question["memory_budget_bytes" if name == "memory_budget" else name] = None
    return question


def ignored(config: Config) -> set[str]:
    """Root names without effect on this point, from its scenario's, implementation's and policy's YAML."""
    implementation = config.impl.ignores if config.scenario.tensors else ()
    names = {*config.scenario.ignores, *implementation, *config.policy.ignores}
    return names | (set() if config.scenario.tensors else {"impl", "measure", "device"})


def _differing(obj: Any, without: tuple[str, ...]) -> dict[str, Any]:
    """Fields that stand apart from their default; those without a default always do."""
    return {
        f.name: getattr(obj, f.name)
        for f in dataclasses.fields(obj)
        if f.name not in without and (f.name == "name" or getattr(obj, f.name) != f.default)
    }


def _workload(config: Config) -> dict[str, Any]:
    asked = _differing(config.workload, without=())
    if isinstance(config.workload, TraceWorkload):
        asked["path"] = _digest(config.workload.path)
    return asked


@lru_cache
def _digest(path: str) -> str:
    return f"sha256:{file_sha256(path)}"


def _predict(config: Config) -> tuple[dict[str, int], str | None]:
    """Bytes known beforehand, and why the point cannot run (if so)."""
    if not config.scenario.tensors:
        return {}, None
    requests, seq_lens = draw(config)
    if reason := _implementation_problem(config):
        return {}, reason
    try:
        filled = fill(config, requests, seq_lens)
    except CannotRun as error:
        return {}, str(error)
    pool_bytes = filled.policy.pool_bytes
    layers = config.layers_allocated
    return {"pool_bytes": pool_bytes, "storage_bytes": pool_bytes // config.model.num_layers * layers}, None


def _implementation_problem(config: Config) -> str | None:
    impl = config.impl
    if config.device not in impl.devices:
        return f"{impl.name} needs device={' or '.join(impl.devices)}; this point is on {config.device}"
    if config.policy.name not in impl.policies:
        return f"{impl.name} cannot stand on policy={config.policy.name}; it takes {', '.join(impl.policies)}"
    if module_file(impl.target) is None:
        raise ValueError(f"impl.target={impl.target} cannot be found on the import path")
    return None


def module_file(target: str) -> Path | None:
    """Source file of ``package.module.Class``, without importing it."""
    try:
        spec = importlib.util.find_spec(target.rpartition(".")[0])
    except ModuleNotFoundError:
        return None
    return Path(spec.origin) if spec is not None and spec.origin else None


def extend_import_path(folders: Iterable[str]) -> None:
    """Let implementations lie beside their YAML in a ``--config-dir``."""
    sys.path.extend(folder for folder in folders if folder not in sys.path)
