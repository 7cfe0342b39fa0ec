"""The question of a point: its effective parameters, with every ``auto`` resolved. The key is their hash."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from bench.config import Config, PolicyConfig, TraceWorkload
from bench.config.memory import PrefixCacheScenario
from bench.config.serving import ServingScenario
from bench.config.units import parse_bytes
from bench.scenarios.serving.measured import rows_digest
from bench.workload.traces.reader import file_sha256
from impls.interface import POLICY_KINDS
from impls.spec import ModelSpec, ceil_div

KEY_VERSION = 1
"""Incremented when a default changes, because equal keys must always mean equal questions."""


def key_of(question: Mapping[str, Any]) -> str:
    """Return the key of a question, 16 hexadecimal digits."""
    return hashlib.sha256(json.dumps([KEY_VERSION, question], sort_keys=True).encode()).hexdigest()[:16]


def resolve(config: Config, device: str | None) -> Config:
    """Return the configuration with ``auto`` replaced in device, policy and memory budget."""
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
    return dataclasses.replace(config, device=device, policy=policy, memory_budget=budget, model=_model(config))


def _model(config: Config) -> ModelSpec:
    """Return the model without options that the scenario ignores, so that no key and no label contains them."""
    ignored_fields = config.scenario.idle_model_fields
    nulls: dict[str, Any] = {
        f.name: None for f in dataclasses.fields(ModelSpec) if f.default is None and f.name in ignored_fields
    }
    return dataclasses.replace(config.model, **nulls)


def _budget_bytes(config: Config, policy: PolicyConfig) -> int:
    """Return the budget. ``auto`` holds ``num_seqs`` sequences of ``model.max_seq_len`` tokens in whole pages."""
    if config.memory_budget != "auto":
        return parse_bytes(config.memory_budget, "memory_budget")
    granule = config.page_size if policy.has_pages else 1
    return config.num_seqs * ceil_div(config.model.max_seq_len, granule) * granule * config.model.token_bytes


def effective(config: Config) -> dict[str, Any]:
    """Return the effective parameters. Sizes are in bytes, and a trace is given by the hash of its content.

    Fields with the default value of their dataclass are left out, so that a new option does not change old keys.
    """
    scenario, policy = config.scenario, config.policy
    question: dict[str, Any] = {
        "scenario": _changed_fields(scenario, without=("target", "predict", "processes", "tensors", "ignores")),
        "impl": {"name": config.impl.name, **({"options": dict(config.impl.options)} if config.impl.options else {})},
        "policy": _changed_fields(policy, without=("ignores", "target", "kind")),
        "model": _changed_fields(
            config.model, without=("name",) if scenario.uses_weights else ("name", "num_parameters")
        ),
        "workload": _workload(config),
        "measure": _changed_fields(config.measure, without=("name",)),
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
    """Return the root names without effect on this point: those that scenario, implementation or policy ignore."""
    implementation = config.impl.ignores if config.scenario.tensors else ()
    names = {*config.scenario.ignored_roots, *implementation, *config.policy.ignores}
    return names | (set() if config.scenario.tensors else {"impl", "measure", "device"})


def _changed_fields(obj: Any, without: tuple[str, ...]) -> dict[str, Any]:
    """Return the name, the fields without a default, and the fields that differ from their default."""
    return {
        f.name: getattr(obj, f.name)
        for f in dataclasses.fields(obj)
        if f.name not in without and (f.name == "name" or getattr(obj, f.name) != f.default)
    }


def _workload(config: Config) -> dict[str, Any]:
    fields = _changed_fields(config.workload, without=())
    if isinstance(config.workload, TraceWorkload):
        fields["path"] = _digest(config.workload.path)
        for name in _idle_trace_fields(config):
            fields.pop(name, None)
    return fields


def _idle_trace_fields(config: Config) -> tuple[str, ...]:
    """Return the options of a trace without effect on this point."""
    scenario = config.scenario
    if not isinstance(scenario, ServingScenario):
        lengths = ("most_output_tokens",) if isinstance(scenario, PrefixCacheScenario) else ()
        return ("repeat", "spread_ticks", *lengths)
    return ("repeat",) if scenario.arrivals == "trace" else ("spread_ticks",)


def _cost(config: Config) -> dict[str, Any]:
    """Return the constants of the cost model without names. Measured rows are given by a hash of their content."""
    fields = _changed_fields(config.cost, without=("name", "gpu", "rows", "implementation"))
    digest = rows_digest(config.cost, config.model, config.page_size)
    return {**fields, "rows": digest} if digest else fields


@lru_cache
def _digest(path: str) -> str:
    return f"sha256:{file_sha256(path)}"
