"""What a point asks: every ``auto`` resolved, what has no effect left out, and the key of the rest."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from bench.config import Config, PolicyConfig, TraceWorkload
from bench.config.units import parse_bytes
from bench.scenarios.serving.measured import rows_digest
from bench.workload.traces.reader import file_sha256
from impls.interface import POLICY_KINDS
from impls.spec import ceil_div

KEY_VERSION = 1
"""Raised when a default changes: equal keys must go on meaning equal questions."""


def key_of(question: Mapping[str, Any]) -> str:
    """The key of an effective question."""
    return hashlib.sha256(json.dumps([KEY_VERSION, question], sort_keys=True).encode()).hexdigest()[:16]


def resolve(config: Config, device: str | None) -> Config:
    """Replace every ``auto`` by what it means: device, policy, memory budget."""
    policy = config.policy
    if policy.name == "auto":
        name = config.impl.policies[0] if config.scenario.tensors else "paged"
        if name not in POLICY_KINDS:
            raise ValueError(
                f"policy=auto must be policy={name}: it is the default of impl={config.impl.name}, and its YAML file "
                "is not in this repository"
            )
        policy = PolicyConfig(name=name, watermark=policy.watermark, arena=policy.arena)
    device = (device or "cpu") if config.device == "auto" else config.device
    budget = str(_budget_bytes(config, policy))
    return dataclasses.replace(config, device=device, policy=policy, memory_budget=budget)


def _budget_bytes(config: Config, policy: PolicyConfig) -> int:
    """``auto`` holds ``num_seqs`` sequences of the model's longest length in whole pages."""
    if config.memory_budget != "auto":
        return parse_bytes(config.memory_budget, "memory_budget")
    granule = config.page_size if policy.has_pages else 1
    return config.num_seqs * ceil_div(config.model.max_seq_len, granule) * granule * config.model.token_bytes


def effective(config: Config) -> dict[str, Any]:
    """What the point asks: effective parameters only, sizes as bytes, a trace by its content.

    Fields at the default of their dataclass are left out, so that a new option keeps old keys.
    """
    scenario, policy = config.scenario, config.policy
    question: dict[str, Any] = {
        "scenario": _differing(scenario, without=("target", "predict", "processes", "tensors", "ignores")),
        "impl": {"name": config.impl.name, **({"options": dict(config.impl.options)} if config.impl.options else {})},
        "policy": _differing(policy, without=("ignores", "target", "kind")),
        "model": _differing(config.model, without=("name",) if scenario.uses_weights else ("name", "num_parameters")),
        "workload": _workload(config),
        "measure": _differing(config.measure, without=("name",)),
        "device": config.device,
        "memory_budget_bytes": parse_bytes(config.memory_budget, "memory_budget"),
        **{name: getattr(config, name) for name in ("page_size", "page_layout", "num_seqs", "seed")},
    }
    if scenario.models_time:
        question["cost"] = _cost(config)
    for name in scenario.without_effect(config):
        question["scenario"].pop(name, None)
    for name in policy.without_effect:
        question["policy"].pop(name, None)
    for name in ignored(config):
        question["memory_budget_bytes" if name == "memory_budget" else name] = None
    return question


def ignored(config: Config) -> set[str]:
    """Root names without effect on this point, from its scenario's, implementation's and policy's YAML."""
    implementation = config.impl.ignores if config.scenario.tensors else ()
    names = {*config.scenario.ignored_roots, *implementation, *config.policy.ignores}
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


def _cost(config: Config) -> dict[str, Any]:
    """The constants of a step's time; what they are called does not matter. Measured rows by their content."""
    asked = _differing(config.cost, without=("name", "gpu", "rows", "implementation"))
    digest = rows_digest(config.cost, config.model, config.page_size)
    return {**asked, "rows": digest} if digest else asked


@lru_cache
def _digest(path: str) -> str:
    return f"sha256:{file_sha256(path)}"
