"""Compute effects, intervals and p-values of many points at once, from runs to a frame.

All numbers are natural logarithms of ratios. Above 0 is worse. Intervals and tests come from scipy:
Student t on the mean below ``rules.bootstrap_from`` pairs, and the BCa bootstrap of the median from
there on, at the level of ``bootstrap_level``. With five pairs a bootstrap of the median is [min, max].
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from bench.compare.verdicts.designs import Design
from bench.compare.verdicts.rules import Rules

Floats = NDArray[np.float64]

IDENTICAL = 1e-9
"""Logarithms that differ by less are equal, because no clock resolves a billionth."""

POWER = 0.8
"""``detectable`` is the true effect that is found with this probability."""

CHUNK = 2_000_000
"""Most numbers that one bootstrap holds in memory at once."""

ESTIMATE_COLUMNS = ("effect", "low", "high", "p_worse", "p_better", "spread", "detectable")


def estimate(runs: Design, floor: float, rules: Rules) -> pd.DataFrame:
    """Return effect, interval and one-sided p-values of every point.

    Args:
        runs: logs of the runs and their design.
        floor: log of the ratio below which no difference counts.
        rules: rules of the comparison.

    Returns:
        One row per point: ``effect, low, high``, ``p_worse`` and ``p_better`` against the floor,
        ``spread`` between runs of one side, ``detectable`` (the effect that would be found with
        ``POWER``), and ``interval`` (the method). All but the effect are null below two pairs.
    """
    by_bootstrap = runs.pairs >= rules.bootstrap_from
    effect = _difference(np.median if by_bootstrap else np.mean, runs.values, axis=1)
    out = pd.DataFrame({name: np.full(len(effect), np.nan) for name in ESTIMATE_COLUMNS})
    out["effect"], out["interval"] = effect, pd.Series("none", out.index, dtype=object)
    if runs.pairs < 2:
        return out
    constant = np.logical_and.reduce([np.ptp(values, axis=1) <= IDENTICAL for values in runs.values])
    _fill_constant(out, constant, floor)
    if not constant.all():
        _fill_varying(out, ~constant, runs.take(~constant), floor, rules, by_bootstrap=by_bootstrap)
    return out


def _fill_constant(out: pd.DataFrame, rows: NDArray[np.bool_], floor: float) -> None:
    """Fill points whose pairs all agree, where nothing needs estimating."""
    effect = out.loc[rows, "effect"]
    out.loc[rows, "low"] = out.loc[rows, "high"] = effect
    out.loc[rows, "p_worse"] = np.where(effect > floor, 0.0, 1.0)
    out.loc[rows, "p_better"] = np.where(effect < -floor, 0.0, 1.0)
    out.loc[rows, "spread"] = 0.0
    out.loc[rows, "detectable"] = floor
    out.loc[rows, "interval"] = "exact"


def _fill_varying(
    out: pd.DataFrame, rows: NDArray[np.bool_], runs: Design, floor: float, rules: Rules, *, by_bootstrap: bool
) -> None:
    out.loc[rows, "p_worse"] = runs.p_value(floor, "greater")
    out.loc[rows, "p_better"] = runs.p_value(-floor, "less")
    if by_bootstrap:
        low, high, method = _bootstrap(runs, rules)
    else:
        low, high = runs.interval(rules.confidence)
        method = np.full(len(low), "t", dtype=object)
    out.loc[rows, "low"], out.loc[rows, "high"], out.loc[rows, "interval"] = low, high, method
    out.loc[rows, "spread"] = np.sqrt(runs.variance())
    out.loc[rows, "detectable"] = floor + _reach(runs.degrees, rules, by_bootstrap) * runs.error()


def _reach(degrees: int, rules: Rules, by_bootstrap: bool) -> float:
    """Return how many standard errors beyond the floor a true effect must be to be found with ``POWER``."""
    t = stats.t(degrees)
    # The median of normal noise scatters more than its mean, by a factor of the root of π / 2.
    return float((t.ppf((1 + rules.confidence) / 2) + t.ppf(POWER)) * (np.sqrt(np.pi / 2) if by_bootstrap else 1))


def _difference(centre: Callable[..., Any], values: Sequence[Floats], axis: int) -> Any:
    middles = [centre(side, axis=axis) for side in values]
    return middles[0] - middles[1] if len(middles) == 2 else middles[0]


def _median_difference(*values: Floats, axis: int = -1) -> Any:
    return _difference(np.median, values, axis)


def _bootstrap(runs: Design, rules: Rules) -> tuple[Floats, Floats, NDArray[Any]]:
    """Return the BCa interval of the median, or the percentile interval where ties leave BCa undefined."""
    low, high = _interval(runs, rules, "BCa")
    method = np.full(len(low), "bca", dtype=object)
    undefined = ~(np.isfinite(low) & np.isfinite(high))
    if undefined.any():
        low[undefined], high[undefined] = _interval(runs.take(undefined), rules, "percentile")
        method[undefined] = "percentile"
    return low, high, method


def bootstrap_level(confidence: float, degrees: int) -> float:
    """Return the level at which a bootstrap of few runs has the requested coverage.

    Resamples of n runs scatter as if these were the whole population, so a percentile is a normal quantile where a
    Student quantile is needed. This is the level whose normal quantile equals Student's (Hesterberg 2015, The American
    Statistician 69:371-386, on intervals that are too narrow in small samples).

    Args:
        confidence: requested coverage.
        degrees: degrees of freedom.

    >>> round(bootstrap_level(0.95, 9), 4), round(bootstrap_level(0.95, 10_000), 4)
    (0.9763, 0.95)
    """
    return float(2 * stats.norm.cdf(stats.t.ppf((1 + confidence) / 2, degrees)) - 1)


def _interval(runs: Design, rules: Rules, method: Any) -> tuple[Floats, Floats]:
    samples, level = runs.values, bootstrap_level(rules.confidence, runs.degrees)
    points = max(1, CHUNK // (rules.resamples * max(values.shape[1] for values in samples)))
    lows, highs = [], []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about ties. The caller handles the undefined values
        for start in range(0, len(samples[0]), points):
            done = stats.bootstrap(
                [values[start : start + points] for values in samples],
                _median_difference,
                axis=-1,
                vectorized=True,
                paired=False,
                method=method,
                n_resamples=rules.resamples,
                confidence_level=level,
                rng=np.random.default_rng(0),  # equal runs give equal verdicts
            )
            lows.append(np.atleast_1d(done.confidence_interval.low))
            highs.append(np.atleast_1d(done.confidence_interval.high))
    return np.concatenate(lows), np.concatenate(highs)


def adjusted(p_values: pd.Series) -> pd.Series:
    """Return Benjamini–Hochberg q-values of the p-values that are not null."""
    known = p_values.notna()
    out = pd.Series(np.nan, index=p_values.index)
    if known.any():
        out[known] = stats.false_discovery_control(p_values[known].to_numpy(float))
    return out
