"""Assemble one row from a point and the results of its processes."""

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


def identity(point: Point) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the identity columns of a point, and the reason for each that is null."""
    question, config = point.question, point.config
    tensors = config.scenario.tensors
    columns: dict[str, Any] = {
        "key": point.key,
        "scenario": config.scenario.name,
        "implementation": config.impl.name if tensors else None,
        "policy": config.policy.name if question["policy"] else None,
        "arena": config.policy.arena if question["policy"] and "arena" not in config.policy.without_effect else None,
        "model": config.model.name if question["model"] else None,
        "workload": config.workload.name if question["workload"] else None,
        "trace": _trace_name(config) if question["workload"] else None,
        "device": question["device"],
        "dtype": config.model.dtype if question["model"] else None,
        "attention_shape": config.model.attention if question["model"] else None,
        **{name: question[name] for name in ("page_layout", "page_size", "num_seqs", "memory_budget_bytes", "seed")},
    }
    return columns, {name: NO_EFFECT for name, value in columns.items() if value is None}


def _trace_name(config: Config) -> str | None:
    """Return the file name of the trace without folder and suffixes. ``None`` if the workload is no trace."""
    return Path(config.workload.path).name.partition(".")[0] if isinstance(config.workload, TraceWorkload) else None


def make_row(point: Point, replicate: int, answer: Answer, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return one row.

    Args:
        point: the point that was run.
        replicate: number of the round.
        answer: merged results of its processes.
        facts: columns that the harness measures (``server_id``, ``harness_s``, …).
    """
    columns, reasons = identity(point)
    row = {
        **columns,
        **answer.values,
        **facts,
        "experiment": _experiment(point),
        "replicate": replicate,
        "status": answer.status,
        "status_reason": answer.status_reason,
    }
    reasons = {**_not_measured(row, point.config), "experiment": NO_EXPERIMENT, **reasons, **answer.null_reasons}
    return {**row, "null_reasons": {name: reason for name, reason in reasons.items() if row.get(name) is None}}


def _experiment(point: Point) -> str | None:
    """Return the experiment that the overrides of the point name, or ``None``."""
    named = [override.partition("=")[2] for override in point.overrides if override.startswith("experiment=")]
    return named[-1] if named and named[-1] != "null" else None


def _not_measured(row: Mapping[str, Any], config: Config) -> dict[str, str]:
    """Return the reason for every column that the scenario does not measure. A failed row has only its status."""
    if row["status"] != "ok":
        return {}
    reason = f"scenario={config.scenario.name} does not measure it"
    return {name: reason for name in NAMES if name not in row and name not in MAY_BE_NULL}


def repro_command(point: Point, config_dirs: Sequence[str]) -> str:
    """Return the command that runs exactly this point again, from the root of the repository."""
    left_out = ("device", *RUN_CONTROL)
    overrides = [override for override in point.overrides if override.partition("=")[0] not in left_out]
    device = [f"device={point.config.device}"] if point.config.scenario.tensors else []
    folders = [f"--config-dir={folder}" for folder in config_dirs]
    return shlex.join(["python", "bench/run.py", "-m", *folders, *overrides, *device])
