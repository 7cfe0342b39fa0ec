"""From a point and what its processes answered to one row."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.config import Config, TraceWorkload
from bench.plan.points import Point
from bench.rows.columns import MAY_BE_NULL, NAMES
from bench.rows.result import Answer
from bench.runner.job import RUN_CONTROL

NO_EFFECT = "has no effect on this point"
NO_EXPERIMENT = "the command named no experiment"


def identity(point: Point, config: Config) -> tuple[dict[str, Any], dict[str, str]]:
    """The columns that say what was asked, and why some are null."""
    asked = point.question
    tensors = config.scenario.tensors
    columns: dict[str, Any] = {
        "key": point.key,
        "scenario": config.scenario.name,
        "implementation": config.impl.name if tensors else None,
        "policy": config.policy.name if asked["policy"] else None,
        "arena": config.policy.arena if asked["policy"] and "arena" not in config.policy.without_effect else None,
        "model": config.model.name if asked["model"] else None,
        "workload": config.workload.name if asked["workload"] else None,
        "trace": _trace_name(config) if asked["workload"] else None,
        "device": asked["device"],
        "dtype": config.model.dtype if asked["model"] else None,
        "attention_shape": config.model.attention if asked["model"] else None,
        **{name: asked[name] for name in ("page_layout", "page_size", "num_seqs", "memory_budget_bytes", "seed")},
    }
    return columns, {name: NO_EFFECT for name, value in columns.items() if value is None}


def _trace_name(config: Config) -> str | None:
    """The trace's file, without folder and endings."""
    return Path(config.workload.path).name.partition(".")[0] if isinstance(config.workload, TraceWorkload) else None


def make_row(point: Point, config: Config, replicate: int, answer: Answer, facts: Mapping[str, Any]) -> dict[str, Any]:
    """One row.

    Args:
        point: what was asked.
        config: its resolved configuration.
        replicate: which round.
        answer: what its processes found, merged.
        facts: the harness's own columns (``server_id``, ``harness_s``, …).
    """
    columns, reasons = identity(point, config)
    row = {
        **columns,
        **answer.values,
        **facts,
        "experiment": _experiment(point),
        "replicate": replicate,
        "status": answer.status,
        "status_reason": answer.status_reason,
    }
    reasons = {**_not_measured(row, config), "experiment": NO_EXPERIMENT, **reasons, **answer.null_reasons}
    return {**row, "null_reasons": {name: reason for name, reason in reasons.items() if row.get(name) is None}}


def _experiment(point: Point) -> str | None:
    """The experiment that the point's overrides name."""
    named = [override.partition("=")[2] for override in point.overrides if override.startswith("experiment=")]
    return named[-1] if named and named[-1] != "null" else None


def _not_measured(row: Mapping[str, Any], config: Config) -> dict[str, str]:
    """The reason for every column that the scenario does not speak of; a failed row's status is its own."""
    if row["status"] != "ok":
        return {}
    reason = f"scenario={config.scenario.name} does not measure it"
    return {name: reason for name in NAMES if name not in row and name not in MAY_BE_NULL}


def repro_command(point: Point, config: Config, config_dirs: Sequence[str]) -> str:
    """A command that re-runs exactly this point, from the repository's root."""
    left_out = ("device", *RUN_CONTROL)
    overrides = [override for override in point.overrides if override.partition("=")[0] not in left_out]
    device = [f"device={config.device}"] if config.scenario.tensors else []
    folders = [f"--config-dir={folder}" for folder in config_dirs]
    return shlex.join(["python", "bench/run.py", "-m", *folders, *overrides, *device])
