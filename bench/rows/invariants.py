"""Relations that hold in every correct row. A row of status ``ok`` that breaks one becomes ``incorrect``.

They are checked when a row is written and when it is read, so that a wrong number is found, whatever code produced it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from typing import Any, Final

from bench.config.numbers import number_text
from bench.rows.columns import COLUMNS

CEILING_MARGIN: Final = 1.25
"""Largest possible ``ceiling_ratio`` of a step that reads memory. The ceiling itself is a measurement with noise."""

CACHE_MULTIPLE: Final = 4
"""A step that reads more than this many last-level caches cannot be served by the cache."""

PART_COLUMNS: Final = ("live_bytes", "reserved_bytes", "internal_fragmentation_bytes", "external_fragmentation_bytes",
                "cached_bytes", "free_bytes")  # fmt: skip
"""Columns of the six parts of a pool. They sum to ``pool_bytes``."""

_REL_TOLERANCE: Final = 1e-9

Row = Mapping[str, Any]


def checked(row: Row) -> dict[str, Any]:
    """Return the row, with status ``incorrect`` and a reason if it is ``ok`` and breaks an invariant."""
    broken = first_broken(row) if row.get("status") == "ok" else None
    return dict(row) if broken is None else {**row, "status": "incorrect", "status_reason": broken}


def first_broken(row: Row) -> str | None:
    """Return a sentence about the first invariant that the row breaks, or ``None``.

    >>> first_broken({"prefix_hit_ratio": 1.9})
    'prefix_hit_ratio=1.9 must be between 0 and 1'
    """
    return next((sentence for check in _CHECKS if (sentence := check(row))), None)


def _number(row: Row, name: str) -> float | None:
    """Return the number in a column, or ``None`` if the column has none. ``pandas.NA`` is no number."""
    value = row.get(name)
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _bounds(row: Row) -> str | None:
    for column in COLUMNS:
        value = _number(row, column.name)
        if value is None:
            continue
        if not math.isfinite(value):
            return f"{column.name}={value} must be finite"
        low, high = column.limits or (-math.inf, math.inf)
        if not low <= value <= high:
            allowed = f"at least {low:g}" if high == math.inf else f"between {low:g} and {high:g}"
            return f"{column.name}={value} must be {allowed}"
    return None


def _parts_sum(row: Row) -> str | None:
    parts = [_number(row, name) for name in PART_COLUMNS]
    pool = _number(row, "pool_bytes")
    if pool is None or any(part is None for part in parts):
        return None
    total = sum(part for part in parts if part is not None)
    if math.isclose(total, pool, rel_tol=_REL_TOLERANCE):
        return None
    return f"the parts of the pool sum to {number_text(total)} bytes, and pool_bytes is {number_text(pool)}"


def _storage_holds_pool(row: Row) -> str | None:
    storage, logical = _number(row, "storage_bytes"), _number(row, "logical_bytes")
    if storage is None or logical is None or storage >= logical:
        return None
    return f"storage_bytes={storage} must be at least logical_bytes={logical}, which the policy counts"


def _ordered(*names: str) -> Callable[[Row], str | None]:
    """Return a check that the values of these columns ascend."""

    def check(row: Row) -> str | None:
        known = [(name, value) for name in names if (value := _number(row, name)) is not None]
        for (low_name, low), (high_name, high) in itertools.pairwise(known):
            if low > high * (1 + _REL_TOLERANCE):
                return f"{low_name}={low} must be at most {high_name}={high}"
        return None

    return check


def _ceiling(row: Row) -> str | None:
    """Check that a step that must read memory is not faster than memory."""
    ratio = _number(row, "ceiling_ratio")
    if ratio is None or ratio <= CEILING_MARGIN or not _must_read_memory(row):
        return None
    achieved, ceiling = row.get("achieved_gbps"), row.get("ceiling_gbps")
    return (
        f"achieved_gbps={achieved} is {number_text(ratio)} x ceiling_gbps={ceiling}; at most {CEILING_MARGIN} is "
        "possible for a step that reads memory"
    )


def _must_read_memory(row: Row) -> bool:
    """Return whether the timed step cannot find its inputs in the last-level cache."""
    if row.get("l2_mode") == "cold":
        return True
    cache = _number(row, "last_level_cache_bytes")
    achieved = _number(row, "achieved_gbps")
    time_us = _number(row, "decode_us") or _number(row, "prefill_us")
    if not cache or achieved is None or time_us is None:
        return False
    return achieved * time_us * 1000 > CACHE_MULTIPLE * cache


_CHECKS: Final[tuple[Callable[[Row], str | None], ...]] = (
    _bounds,
    _parts_sum,
    _storage_holds_pool,
    _ordered("decode_us_min", "decode_us_low", "decode_us", "decode_us_high"),
    _ordered("prefill_us_min", "prefill_us_low", "prefill_us", "prefill_us_high"),
    _ordered("admitted_seqs", "num_seqs"),
    _ordered("hit_pages", "looked_up_pages"),
    _ordered("prefix_hit_tokens", "prompt_tokens"),
    _ordered("torch_allocated_peak_bytes", "torch_reserved_peak_bytes"),
    *(_ordered(*(f"{name}_{which}" for which in ("p50", "p90", "p99")))
      for name in ("ttft_ms", "tpot_ms", "itl_ms", "e2e_ms", "normalized_latency_ms_per_token")),
    _ceiling,
)  # fmt: skip
