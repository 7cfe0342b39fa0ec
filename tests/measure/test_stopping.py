"""When sampling stops, each reason forced on its own, and what is thrown away."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from bench.measure import stopping
from bench.measure.intervals import median_interval, rel_spread
from bench.measure.stopping import BUDGET, CONVERGED, MAX_DISCARDED_RATIO, STABLE_NOISE, StoppingRule, collect


def rule(**changes: float) -> StoppingRule:
    return StoppingRule(**{"min_samples": 10, "max_s": 3600.0, "rel_half_width": 0.01, **changes})  # type: ignore[arg-type]


def noise(sigma: float, per_take: int = 1) -> Callable[[], list[float]]:
    generator = np.random.default_rng(0)
    return lambda: list(np.exp(sigma * generator.standard_normal(per_take)))


def test_equal_samples_converge_at_once() -> None:
    taken = collect(lambda: [5.0], rule())
    assert (taken.stop, len(taken.values), taken.discarded_ratio) == (CONVERGED, 10, 0)


def test_more_samples_narrow_the_interval_until_it_converges() -> None:
    taken = collect(noise(0.03), rule())
    assert taken.stop == CONVERGED
    assert len(taken.values) > 10
    assert median_interval(taken.values).rel_half_width <= 0.01


def test_noise_that_no_longer_shrinks_stops() -> None:
    levels = itertools.cycle([1.0, 3.0])
    taken = collect(lambda: [next(levels)], rule())
    assert taken.stop == STABLE_NOISE
    assert len(taken.values) >= stopping.MANY_SAMPLES * 10


def test_the_budget_stops_but_never_below_the_least_samples() -> None:
    taken = collect(noise(1.0), rule(max_s=0))
    assert (taken.stop, len(taken.values)) == (BUDGET, 10)


def test_throttled_samples_are_discarded_up_to_a_limit() -> None:
    always = collect(noise(0.5, per_take=20), rule(max_s=0, min_samples=200), lambda: True)
    assert 0 < always.discarded_ratio <= MAX_DISCARDED_RATIO
    assert len(always.values) >= 200, "a device that is always throttled is measured all the same"
    never = collect(noise(0.5, per_take=20), rule(max_s=0), lambda: False)
    assert never.discarded_ratio == 0


def test_samples_taken_while_throttled_are_discarded() -> None:
    takes = itertools.count()
    latest = [0]

    def take() -> list[float]:
        latest[0] = next(takes)
        return [float(latest[0])]

    taken = collect(take, rule(max_s=0, min_samples=40), lambda: latest[0] % 10 == 9)
    assert not [value for value in taken.values if value % 10 == 9]


@pytest.mark.parametrize("count", [6, 7, 8, 20, 33, 100, 1000])
def test_the_median_interval_against_the_binomial(count: int) -> None:
    """P(x₍ᵣ₎ ≤ median ≤ x₍ₙ₊₁₋ᵣ₎) by brute force: r is the largest rank whose tail is at most 2.5 %."""
    values = [float(value) for value in np.random.default_rng(count).permutation(count)]
    tail, rank = 0.0, 0
    while (tail := tail + math.comb(count, rank) / 2**count) <= 0.025:
        rank += 1
    low, median, high = median_interval(values)
    assert (low, high) == (rank - 1, count - rank)
    assert median == np.median(values)


def test_the_median_interval_has_its_stated_coverage() -> None:
    generator = np.random.default_rng(1)
    intervals = [median_interval(generator.lognormal(0, 1, 41)) for _ in range(400)]
    covered = sum(low <= 1.0 <= high for low, _, high in intervals)
    assert stats.binomtest(covered, 400, 0.95, alternative="less").pvalue > 1e-4


def test_few_samples_give_their_range_and_none_an_error() -> None:
    assert median_interval([3.0, 1.0, 2.0]) == (1.0, 2.0, 3.0)
    with pytest.raises(ValueError, match="at least one sample"):
        median_interval([])


def test_the_spread_is_the_interquartile_range_over_the_median() -> None:
    values = np.random.default_rng(2).lognormal(0, 0.3, 500)
    low, median, high = np.percentile(values, [25, 50, 75])
    assert rel_spread(list(values)) == pytest.approx((high - low) / median)
