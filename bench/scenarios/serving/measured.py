"""The attention of a decode step as measured: a line through rows of ``scenario=decode``, instead of a roofline."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from bench.config import CostConfig
from bench.rows.record import read_row
from bench.scenarios.serving.cost import FS_PER_US, StepCost
from impls.spec import ModelSpec

LEAST_LENGTHS: Final = 2
"""Different numbers of tokens that a line needs."""


class Measured(NamedTuple):
    """One measured decode step of one layer."""

    live_tokens: int
    decode_us: float


def measured_rows(cost: CostConfig, model: ModelSpec, page_size: int) -> tuple[Measured, ...]:
    """The rows of ``cost.rows`` that measured this model's attention with this page size.

    Raises:
        ValueError: there is no such folder, too few rows of that kind, or rows of several implementations.
    """
    assert cost.rows is not None
    return _rows(cost.rows, cost.implementation, model.name, page_size)


@lru_cache(maxsize=16)
def _rows(folder: str, implementation: str | None, model: str, page_size: int) -> tuple[Measured, ...]:
    paths = sorted((Path(folder) / "points").glob("*.json"))
    if not paths:
        raise ValueError(f"cost.rows={folder} is no run folder: it has no points/*.json")
    rows = [row for row in map(read_row, paths) if row["scenario"] == "decode" and row["status"] == "ok"]
    rows = [row for row in rows if row["model"] == model and row["page_size"] in (page_size, None)]
    rows = [row for row in rows if row.get("decode_us") and implementation in (None, row["implementation"])]
    asked = f"scenario=decode, model={model}, page_size={page_size}, cost.implementation={implementation}"
    if len({row["live_tokens"] for row in rows}) < LEAST_LENGTHS:
        raise ValueError(f"cost.rows={folder} must hold ok rows of {asked}, of {LEAST_LENGTHS} different live_tokens")
    names = sorted({row["implementation"] for row in rows})
    if len(names) > 1:
        raise ValueError(f"cost.rows={folder} has rows of {', '.join(names)}; name one by cost.implementation")
    return tuple(sorted(Measured(row["live_tokens"], row["decode_us"]) for row in rows))


def rows_digest(cost: CostConfig, model: ModelSpec, page_size: int) -> str | None:
    """Hash of the measured numbers: a table's key must know the data that it comes from."""
    if cost.rows is None:
        return None
    return hashlib.sha256(json.dumps(measured_rows(cost, model, page_size)).encode()).hexdigest()[:16]


def line(rows: tuple[Measured, ...]) -> tuple[float, float]:
    """Microseconds of one layer's step, and of each token in it; least squares of the relative errors, none negative.

    >>> [round(float(term), 6) for term in line((Measured(100, 12.0), Measured(200, 14.0), Measured(300, 16.0)))]
    [10.0, 0.02]
    """
    from scipy.optimize import nnls  # planning, which only hashes the rows, starts without scipy

    tokens, times = np.array(rows, dtype=np.float64).T
    terms, _ = nnls(np.stack([np.ones_like(tokens), tokens], axis=1) / times[:, None], np.ones_like(times))
    return float(terms[0]), float(terms[1])


def with_measured_attention(steps: StepCost, cost: CostConfig, model: ModelSpec, page_size: int) -> StepCost:
    """The cost of a step with the reading of K and V as measured: a constant per layer, and a part per token."""
    if cost.rows is None:
        return steps
    layer_us, token_us = line(measured_rows(cost, model, page_size))
    return replace(
        steps,
        overhead_fs=steps.overhead_fs + round(model.num_layers * layer_us * FS_PER_US),
        context_fs=round(model.num_layers * token_us * FS_PER_US),
    )
