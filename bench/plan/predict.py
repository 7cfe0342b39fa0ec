"""Predict the bytes of a point before it runs, and whether it can run on this machine."""

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
    """The prediction for one point.

    Attributes:
        sizes: ``pool_bytes``, ``storage_bytes``, ``device_bytes``, ``live_tokens``, ``admitted_seqs``.
        status: ``unsupported`` or ``oom_predicted`` if the point will not be run, else ``None``.
        reason: why it will not be run.
    """

    sizes: Mapping[str, int] = field(default_factory=dict)
    status: str | None = None
    reason: str | None = None


def predict(config: Config, device_memory: int | None) -> Prediction:
    """Return the prediction for one point.

    Args:
        config: resolved configuration.
        device_memory: bytes of memory of the device. ``None`` if unknown: then no point is predicted to run out.

    Raises:
        ValueError: the implementation or the workload is invalid.
    """
    if config.scenario.tensors and (problem := _implementation_problem(config)):
        return Prediction(status="unsupported", reason=problem)
    try:
        filled = _call_predict(config)
    except CannotRun as error:
        return Prediction(status="unsupported", reason=str(error))
    if filled is None or not config.scenario.tensors:
        return Prediction()
    sizes = _sizes(config, filled)
    if config.plan.predict_oom and device_memory is not None and sizes["device_bytes"] > device_memory:
        reason = f"requires at least {size_text(sizes['device_bytes'])} and the device has {size_text(device_memory)}"
        return Prediction(sizes=sizes, status="oom_predicted", reason=reason)
    return Prediction(sizes=sizes)


def _call_predict(config: Config) -> Filled | None:
    """Call the function ``scenario.predict``. It fills a policy as the scenario will, or only checks the workload.

    Raises:
        CannotRun: the memory budget is too small.
        ValueError: the workload is invalid, or the function does not exist.
    """
    if not config.scenario.predict:
        return None
    module, _, name = config.scenario.predict.partition(":")
    try:
        predict_scenario = getattr(importlib.import_module(module), name)
    except (ImportError, ValueError, AttributeError) as error:
        raise ValueError(
            f"scenario.predict={config.scenario.predict} must be module:function, which can be imported ({error})"
        ) from error
    filled: Filled | None = predict_scenario(config)
    return filled


def _sizes(config: Config, filled: Filled) -> dict[str, int]:
    """Return the sizes. ``device_bytes`` is a lower bound: storage, and the inputs of the reference."""
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
        return f"{impl.name} requires device={' or '.join(impl.devices)} (got {config.device})"
    if config.policy.name not in impl.policies:
        return f"{impl.name} requires policy={' or '.join(impl.policies)} (got {config.policy.name})"
    for package in impl.requires:
        if importlib.util.find_spec(package) is None:
            return f"{impl.name} requires the package {package}, which is not installed"
    if module_file(impl.target) is None:
        raise ValueError(
            f"impl.target={impl.target} cannot be found on the import path. Check the name, and give the folder of "
            "the module with --config-dir"
        )
    return None


def extend_import_path(folders: Iterable[str]) -> None:
    """Add ``--config-dir`` folders to the import path: they may contain implementations beside YAML files."""
    sys.path.extend(folder for folder in folders if folder not in sys.path)


def module_file(target: str) -> Path | None:
    """Return the source file of ``package.module.Class`` without importing the module. ``None`` if there is none."""
    try:
        spec = importlib.util.find_spec(target.rpartition(".")[0])
    except ModuleNotFoundError:
        return None
    return Path(spec.origin) if spec is not None and spec.origin else None
