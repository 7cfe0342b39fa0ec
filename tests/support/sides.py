"""Sides made of arrays, in place of real runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bench.compare import Side
from bench.rows.columns import BY_NAME
from bench.rows.table import typed

FACTS = {"cpu_model": "a processor", "fingerprint": "f00", "gpu": None, "git": {"commit": "abc", "dirty": False}}
SERVERS = iter(range(10**9))


def row(key: str, replicate: int = 0, **values: Any) -> dict[str, Any]:
    """An ok row with a fork server of its own."""
    return {
        "key": key,
        "replicate": replicate,
        "status": "ok",
        "scenario": "decode",
        "implementation": key,
        "timer": "perf_counter",
        "l2_mode": "hot",
        "server_id": f"server-{next(SERVERS)}",
        "fingerprint": "f00",
        **values,
    }


def side_of(rows: Sequence[dict[str, Any]], *, interleaved: str | None = "pairs", **changes: Any) -> Side:
    table = typed(rows, "rows")
    planned = table.groupby("key", sort=False)["replicate"].nunique().to_dict()
    given = {"name": "made", "table": table, "facts": FACTS, "planned": planned, "interleaved": interleaved}
    return Side(**{**given, **changes})


def timed(values: NDArray[np.float64], metric: str = "decode_us", **changes: Any) -> Side:
    """``[points, replicates]`` of one metric."""
    rows = [
        row(f"p{point}", replicate, **{metric: float(value)})
        for point, runs in enumerate(values)
        for replicate, value in enumerate(runs)
    ]
    return side_of(rows, **changes)


def many_timed(values: NDArray[np.float64], metric: str = "decode_us") -> Side:
    """The same for thousands of points, without a Python loop over rows."""
    points, runs = values.shape
    table = pd.DataFrame({name: pd.Series([None] * values.size, dtype=c.dtype) for name, c in BY_NAME.items()})
    table["key"] = np.repeat([f"p{point}" for point in range(points)], runs)
    table["replicate"] = pd.array(np.tile(np.arange(runs), points), dtype="Int64")
    table["server_id"] = [f"server-{next(SERVERS)}" for _ in range(values.size)]
    for name, value in {"status": "ok", "scenario": "decode", "timer": "perf_counter"}.items():
        table[name] = value
    table[metric] = pd.array(values.ravel(), dtype="Float64")
    planned = dict.fromkeys(table["key"].unique(), runs)
    return Side(name="made", table=table, facts=FACTS, planned=planned, interleaved="pairs")
