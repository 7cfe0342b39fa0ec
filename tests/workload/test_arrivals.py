"""Arrivals: the true rate, the configured variation, and independence of the number drawn."""

from __future__ import annotations

import numpy as np
import pytest

from bench.workload.arrivals import QUANTUM_S, arrival_times

MANY = 50_000


def times(kind: str, *, rate: float = 2.0, cv: float = 1.0, number: int = MANY, seed: int = 0, **duration: float):
    return arrival_times(kind, rate=rate, cv=cv, seed=seed, number=number, **duration)


@pytest.mark.parametrize(("kind", "cv"), [("poisson", 1.0), ("gamma", 0.5), ("gamma", 1.0), ("gamma", 3.0)])
def test_rate_and_variation_are_those_requested(kind: str, cv: float) -> None:
    """A gap capped at three means, as elsewhere, would make the rate 5 % too high: 11 standard errors here."""
    gaps = np.diff(times(kind, rate=2.0, cv=cv))
    assert gaps.mean() == pytest.approx(0.5, abs=4 * 0.5 * cv / np.sqrt(MANY))
    assert gaps.std() / gaps.mean() == pytest.approx(cv, rel=0.05)
    assert gaps.max() > 3 * 0.5 or cv < 1


def test_quanta_hold_poisson_counts() -> None:
    arrived = times("poisson_10ms", rate=250.0)
    quanta = np.rint(arrived / QUANTUM_S)
    assert np.allclose(arrived, quanta * QUANTUM_S, rtol=0, atol=1e-9)
    counts = np.bincount(quanta.astype(int))
    assert counts.mean() == pytest.approx(2.5, abs=4 * np.sqrt(2.5 / len(counts)))
    assert counts.var() == pytest.approx(2.5, rel=0.05)


@pytest.mark.parametrize("kind", ["poisson", "poisson_10ms", "gamma"])
def test_the_first_arrivals_do_not_depend_on_how_many_follow(kind: str) -> None:
    few, many = times(kind, number=100, cv=2.0), times(kind, number=20_000, cv=2.0)
    assert np.array_equal(few, many[:100])
    assert np.all(np.diff(many) >= 0)
    lasting = times(kind, number=1, cv=2.0, duration_s=500.0)
    assert np.array_equal(lasting, many[many < 500.0])


def test_requests_of_a_saturated_queue_arrive_at_once() -> None:
    assert times("saturated", number=3).tolist() == [0.0, 0.0, 0.0]


def test_a_duration_without_arrivals_is_refused() -> None:
    with pytest.raises(ValueError, match=r"scenario.duration_s=0.001 ends before the first arrival"):
        times("poisson", rate=0.01, duration_s=0.001)
