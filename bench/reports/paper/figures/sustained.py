"""Find the request rate that a system sustains: its normalized latency crosses a threshold there."""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd

THRESHOLDS: Final = (0.1, 0.2, 0.5, 1.0)
"""Thresholds in seconds per token. The paper names none, and its axes end at 1."""
CLAIMED_AT: Final = 0.2
"""The threshold at which claims are judged: five tokens a second, about as fast as people read."""
PAIRS: Final = ("Orca (Oracle)", "Orca (Pow2)", "Orca (Max)")
"""Systems that vLLM's rate is compared with."""


def sustained_rate(rates: pd.Series, latencies: pd.Series, threshold: float) -> float:
    """Return the highest rate before the latency first exceeds a threshold, log-linear between two measured rates.

    Args:
        rates: requests per second, ascending.
        latencies: at those rates, in seconds per token.
        threshold: in seconds per token.

    Returns:
        The rate. NaN if even the lowest rate is above the threshold, or no rate reaches it.

    >>> sustained_rate(pd.Series([1.0, 2.0, 4.0]), pd.Series([0.1, 0.1, 0.4]), 0.2)
    3.0
    """
    above = np.flatnonzero(latencies.to_numpy() > threshold)
    if len(above) == 0 or above[0] == 0:
        return float("nan")
    last = int(above[0])
    pair = latencies.to_numpy()[last - 1 : last + 1].astype(float)
    share = np.log(threshold / pair[0]) / np.log(pair[1] / pair[0])
    low, high = rates.to_numpy()[last - 1 : last + 1].astype(float)
    return float(low + share * (high - low))


def sustained_rates(curves: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Return the rate that vLLM sustains, and its ratio to that of each other system, for every threshold.

    Args:
        curves: columns ``by``, ``system``, ``rate`` and ``latency``.
        by: columns that identify a panel.

    Returns:
        Columns ``by``, ``threshold``, ``pair``, ``rate`` (vLLM's), ``rate_other``, ``ratio``. Null if a rate is null.
    """
    lines = []
    for panel, rows in curves.groupby(by, sort=False):
        for threshold in THRESHOLDS:
            rates = {
                str(system): sustained_rate(line["rate"], line["latency"], threshold)
                for system, line in rows.sort_values("rate").groupby("system", sort=False)
            }
            ours = rates.get("vLLM", float("nan"))
            for other in (name for name in PAIRS if name in rates):
                lines.append(
                    dict(zip(by, panel if isinstance(panel, tuple) else (panel,), strict=True))
                    | {"threshold": threshold, "pair": f"vLLM / {other}", "rate": ours, "rate_other": rates[other],
                       "ratio": ours / rates[other]}
                )  # fmt: skip
    return pd.DataFrame(lines)
