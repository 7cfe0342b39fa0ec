"""Measured attention of a decode step: a line through rows of ``scenario=decode``, instead of a roofline."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Final, NamedTuple

from bench.config import CostConfig
from bench.rows.record import read_row
from bench.scenarios.serving.cost import FS_PER_US, StepCost
from impls.spec import ModelSpec

LEAST_LENGTHS: Final = 2
"""Least number of different token counts for a line."""
INVERSE_UNIT: Final = 2**128
"""Inverse times are integers in this fraction of 1 / microsecond."""


class MeasuredStep(NamedTuple):
    """One measured decode step of one layer."""

    live_tokens: int
    decode_us: float


def measured_rows(cost: CostConfig, model: ModelSpec, page_size: int) -> tuple[MeasuredStep, ...]:
    """Return the rows of ``cost.rows`` that measured this model's attention with this page size.

    Raises:
        ValueError: the folder is missing, has too few such rows, or rows of several implementations.
    """
    assert cost.rows is not None
    return _rows(cost.rows, cost.implementation, model.name, page_size)


@lru_cache(maxsize=16)
def _rows(folder: str, implementation: str | None, model: str, page_size: int) -> tuple[MeasuredStep, ...]:
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
        raise ValueError(f"cost.rows={folder} has rows of {', '.join(names)}. Name one with cost.implementation")
    return tuple(sorted(MeasuredStep(row["live_tokens"], row["decode_us"]) for row in rows))


def rows_digest(cost: CostConfig, model: ModelSpec, page_size: int) -> str | None:
    """Return the hash of the measured numbers, which is part of the key."""
    if cost.rows is None:
        return None
    return hashlib.sha256(json.dumps(measured_rows(cost, model, page_size)).encode()).hexdigest()[:16]


def line(rows: tuple[MeasuredStep, ...]) -> tuple[float, float]:
    """Return the microseconds of one layer's step, and of each token in it.

    They are at least 0 and have the least sum of squared relative errors. The sums are integers, in units of
    ``1 / INVERSE_UNIT``, so that the line does not depend on the processor.

    Args:
        rows: of at least two different ``live_tokens``.

    >>> [round(term, 6) for term in line((Measured(100, 12.0), Measured(200, 14.0), Measured(300, 16.0)))]
    [10.0, 0.02]
    """
    ratios = [row.decode_us.as_integer_ratio() for row in rows]
    ones = [INVERSE_UNIT * denominator // numerator for numerator, denominator in ratios]  # 1 / decode_us
    tokens = [row.live_tokens * one for row, one in zip(rows, ones, strict=True)]
    one_one, token_token = sum(one * one for one in ones), sum(token * token for token in tokens)
    one_token = sum(one * token for one, token in zip(ones, tokens, strict=True))
    layer = sum(ones) * token_token - sum(tokens) * one_token
    token = sum(tokens) * one_one - sum(ones) * one_token
    if layer < 0:  # the best line without a constant
        return 0.0, INVERSE_UNIT * sum(tokens) / token_token
    if token < 0:  # the best constant
        return INVERSE_UNIT * sum(ones) / one_one, 0.0
    determinant = one_one * token_token - one_token * one_token
    return INVERSE_UNIT * layer / determinant, INVERSE_UNIT * token / determinant


def with_measured_attention(steps: StepCost, cost: CostConfig, model: ModelSpec, page_size: int) -> StepCost:
    """Return the cost with measured reading of K and V: a constant per layer, and a part per token."""
    if cost.rows is None:
        return steps
    layer_us, token_us = line(measured_rows(cost, model, page_size))
    return replace(
        steps,
        overhead_fs=steps.overhead_fs + round(model.num_layers * layer_us * FS_PER_US),
        context_fs=round(model.num_layers * token_us * FS_PER_US),
    )
