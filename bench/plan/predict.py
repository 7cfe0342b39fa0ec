"""What is known of a point before it runs: its bytes, and whether it can run here at all."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bench.config import Config
from bench.config.numbers import size_text
from bench.scenarios.filling import CannotRun, Filled


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """Known beforehand.

    Attributes:
        sizes: ``pool_bytes``, ``storage_bytes``, ``device_bytes``, ``live_tokens``, ``admitted_seqs``.
        status: ``unsupported`` or ``oom_predicted`` if the point will not be run, else ``None``.
        reason: why not.
    """

    sizes: Mapping[str, int] = field(default_factory=dict)
    status: str | None = None
    reason: str | None = None


def predict(config: Config, device_memory: int | None) -> Prediction:
    """Predict one point.

    Args:
        config: resolved.
        device_memory: bytes that the device has; ``None`` if unknown, and then nothing is too large.

    Raises:
        ValueError: the implementation or the workload is wrong by itself.
    """
    if config.scenario.tensors and (problem := _implementation_problem(config)):
        return Prediction(status="unsupported", reason=problem)
    try:
        filled = _fill(config)
    except CannotRun as error:
        return Prediction(status="unsupported", reason=str(error))
    if filled is None or not config.scenario.tensors:
        return Prediction()
    sizes = _sizes(config, filled)
    if config.plan.predict_oom and device_memory is not None and sizes["device_bytes"] > device_memory:
        reason = f"needs at least {size_text(sizes['device_bytes'])} and the device has {size_text(device_memory)}"
        return Prediction(sizes=sizes, status="oom_predicted", reason=reason)
    return Prediction(sizes=sizes)


def _fill(config: Config) -> Filled | None:
    """Call the scenario's own ``predict``: fill a policy as the scenario will, or check what can be checked.

    Raises:
        CannotRun: the budget is too small.
        ValueError: the workload is wrong by itself, or there is no such function.
    """
    if not config.scenario.predict:
        return None
    module, _, name = config.scenario.predict.partition(":")
    try:
        predict_scenario = getattr(importlib.import_module(module), name)
    except (ImportError, ValueError, AttributeError) as error:
        raise ValueError(f"scenario.predict={config.scenario.predict} must be module:function ({error})") from error
    filled: Filled | None = predict_scenario(config)
    return filled


def _sizes(config: Config, filled: Filled) -> dict[str, int]:
    """``device_bytes`` is a lower bound: storage, and the inputs that a reference is computed from."""
    pool_bytes, live_tokens = filled.policy.pool_bytes, int(filled.seq_lens.sum())
    storage_bytes = pool_bytes // config.model.num_layers * config.layers_allocated
    reference_tokens = live_tokens if config.scenario.computes_reference else 0
    return {
        "pool_bytes": pool_bytes,
        "storage_bytes": storage_bytes,
        "device_bytes": storage_bytes + reference_tokens * config.model.token_bytes_per_layer,
        "live_tokens": live_tokens,
        "admitted_seqs": len(filled.seq_lens),
    }


def _implementation_problem(config: Config) -> str | None:
    impl = config.impl
    if config.device not in impl.devices:
        return f"{impl.name} needs device={' or '.join(impl.devices)}; this point is on {config.device}"
    if config.policy.name not in impl.policies:
        return f"{impl.name} cannot stand on policy={config.policy.name}; it takes {', '.join(impl.policies)}"
    for package in impl.requires:
        if importlib.util.find_spec(package) is None:
            return f"{impl.name} needs the package {package}, which is not installed"
    if module_file(impl.target) is None:
        raise ValueError(f"impl.target={impl.target} cannot be found on the import path")
    return None


def extend_import_path(folders: Iterable[str]) -> None:
    """Let implementations lie beside their YAML in a ``--config-dir``."""
    sys.path.extend(folder for folder in folders if folder not in sys.path)


def module_file(target: str) -> Path | None:
    """Source file of ``package.module.Class``, without importing it."""
    try:
        spec = importlib.util.find_spec(target.rpartition(".")[0])
    except ModuleNotFoundError:
        return None
    return Path(spec.origin) if spec is not None and spec.origin else None
