"""The rule of the verdict: floors, pairs, directions, and what may be compared at all."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from bench.compare import Comparison, Rules, Side, compare
from bench.compare.verdicts.designs import Floats, Interleaved
from bench.rows.columns import COLUMNS
from tests.proofs.synthetic import interleaved
from tests.support.sides import row, side_of, timed

NOISE = np.random.default_rng(0).normal(0, 0.003, (2, 40))


def judged(change: float, runs: int = 10, metric: str = "decode_us", *, paired: bool = True, **rules: object):
    """The verdicts on one point whose candidate takes ``1 + change`` times as long."""
    base, candidate = 100 * np.exp(NOISE[:, :runs])
    under = "pairs" if paired else None
    return compare(
        timed(base[None], metric, interleaved=under),
        timed(candidate[None] * (1 + change), metric, interleaved=under),
        Rules(**rules),  # type: ignore[arg-type]
    )


def verdict(comparison: Comparison) -> str:
    return str(comparison.verdicts["verdict"].iloc[0])


@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize("runs", [5, 9, 10, 20])
@pytest.mark.parametrize(("change", "expected"), [(0.0, "same"), (0.10, "regressed"), (-0.10, "improved")])
def test_clear_cases_get_the_expected_verdict(paired: bool, runs: int, change: float, expected: str) -> None:
    comparison = judged(change, runs, paired=paired)
    assert verdict(comparison) == expected
    assert comparison.exit_code == (3 if expected == "regressed" else 0)
    found = comparison.verdicts.iloc[0]
    assert found["interval"] == ("t" if runs < 10 else "bca")
    assert found["pairs"] == runs
    assert found["ratio_low"] <= found["ratio"] <= found["ratio_high"]
    assert found["ratio"] == pytest.approx(1 + change, abs=0.01)


def test_an_interval_across_the_floor_is_inconclusive_and_fails_only_if_asked() -> None:
    sides = timed(np.full((1, 10), 100.0)), timed(np.array([[99.0, 99.0, 106.0, 106.0, 99.0] * 2]))
    comparison = compare(*sides, Rules())
    assert verdict(comparison) == "inconclusive"
    assert comparison.exit_code == 0
    assert compare(*sides, Rules(fail_on_inconclusive=True)).exit_code == 6


def test_fewer_than_five_pairs_are_insufficient() -> None:
    comparison = judged(0.5, runs=4)
    assert verdict(comparison) == "insufficient"
    assert comparison.exit_code == 4, "nothing at all was decided: that is not green"
    assert "4 of 5 needed pairs" in comparison.verdicts["reason"].iloc[0]
    assert comparison.verdicts["detectable"].iloc[0] > 0.02, "it prints what it could have seen"


def test_the_floor_is_the_larger_of_two_percent_and_the_measured_one() -> None:
    assert verdict(judged(0.05)) == "regressed"
    base, candidate = 100 * np.exp(NOISE[:, :10])
    sides = timed(base[None]), timed(1.05 * candidate[None])
    noisy = compare(*sides, Rules(), noise={"decode_us": 0.08, "append_us": 0.5})
    assert verdict(noisy) == "same"
    assert noisy.verdicts["floor"].iloc[0] == pytest.approx(0.08)
    assert compare(*sides, Rules(), noise={"decode_us": 0.001}).verdicts["floor"].iloc[0] == pytest.approx(0.02)


def test_direction_is_a_property_of_the_metric(monkeypatch: pytest.MonkeyPatch) -> None:
    columns = [replace(column, derived_from=()) if column.name == "achieved_gbps" else column for column in COLUMNS]
    monkeypatch.setattr("bench.compare.verdicts.rules.COLUMNS", columns)
    assert verdict(judged(0.10, metric="achieved_gbps", metrics=("achieved_gbps",))) == "improved"
    slower = judged(-0.10, metric="achieved_gbps", metrics=("achieved_gbps",))
    assert verdict(slower) == "regressed"
    found = slower.verdicts.iloc[0]
    assert found["ratio_low"] < found["ratio"] < found["ratio_high"] < 1, "the ratio is the plain one"


def regression(logs: Floats) -> tuple[float, float]:
    """The interval of the constant, by least squares of pairs on it and on which side ran first."""
    runs = len(logs)
    design = np.stack([np.ones(runs), np.where(np.arange(runs) % 2 == 0, 1.0, -1.0)], axis=1)
    coefficients, (residual,), _, _ = np.linalg.lstsq(design, logs, rcond=None)
    error = np.sqrt(residual / (runs - 2) * np.linalg.inv(design.T @ design)[0, 0])
    low, high = stats.t.interval(0.95, runs - 2, loc=coefficients[0], scale=error)
    return low, high


def test_below_ten_pairs_the_interval_is_students_with_the_order_taken_out() -> None:
    base, candidate = 100 * np.exp(NOISE[:, :7])
    found = compare(timed(base[None]), timed(1.04 * candidate[None]), Rules()).verdicts.iloc[0]
    logs = np.log(1.04 * candidate / base)
    assert (np.log(found["ratio_low"]), np.log(found["ratio_high"])) == pytest.approx(regression(logs))
    assert found["p_value"] == pytest.approx(stats.ttest_1samp(logs, np.log(1.02), alternative="greater").pvalue)


@pytest.mark.parametrize("pairs", [6, 12])
def test_a_steady_drift_moves_neither_effect_nor_interval(pairs: int) -> None:
    base, candidate = NOISE[:, :pairs]
    drift = interleaved(np.linspace(0, 0.5, 2 * pairs))
    steady = compare(timed(np.exp(base)[None]), timed(np.exp(candidate)[None]), Rules()).verdicts.iloc[0]
    drifting = (np.exp(side + slow)[None] for side, slow in zip((base, candidate), drift, strict=True))
    found = compare(*map(timed, drifting), Rules()).verdicts.iloc[0]
    for name in ("ratio", "ratio_low", "ratio_high", "spread"):
        assert found[name] == pytest.approx(steady[name])


def test_without_one_order_pairs_are_one_sample() -> None:
    logs = np.log(1.04) + NOISE[0, :7]
    runs = Interleaved(logs[None], np.empty((1, 0)))
    low, high = runs.interval(0.95)
    assert (low[0], high[0]) == pytest.approx(stats.t.interval(0.95, 6, loc=logs.mean(), scale=stats.sem(logs)))


def test_pairing_removes_a_drift_that_two_blocks_cannot() -> None:
    drift = np.linspace(0, 0.6, 10)
    base, candidate = 100 * np.exp(NOISE[:, :10] + drift)
    sides = base[None], 1.10 * candidate[None]
    assert verdict(compare(timed(sides[0]), timed(sides[1]), Rules())) == "regressed"
    apart = compare(timed(sides[0], interleaved=None), timed(sides[1], interleaved=None), Rules())
    assert verdict(apart) == "inconclusive"
    assert any("not interleaved" in note for note in apart.notes)
    other = compare(timed(sides[0], interleaved="one"), timed(sides[1], interleaved="another"), Rules())
    assert not other.paired, "interleaved, but not with each other"


def test_children_of_one_fork_server_are_one_replicate() -> None:
    def forked(scale: float) -> Side:
        return side_of([row("p", r, decode_us=scale * (100 + r), server_id=f"{scale}-{r // 5}") for r in range(20)])

    found = compare(forked(1), forked(2), Rules()).verdicts.iloc[0]
    assert (found["pairs"], found["verdict"]) == (4, "insufficient")


def test_rows_are_joined_by_key_never_by_order() -> None:
    rows = [row(key, r, decode_us=value + r / 10) for r in range(6) for key, value in (("a", 100), ("b", 200))]
    others = [
        row(key, r, decode_us=value + r / 10) for key, value in (("b", 200), ("a", 100)) for r in range(5, -1, -1)
    ]
    comparison = compare(side_of(rows), side_of(others), Rules())
    assert comparison.verdicts["ratio"].tolist() == pytest.approx([1, 1])


@pytest.mark.parametrize("column", ["batch_digest", "timer", "l2_mode"])
def test_unequal_work_or_timer_is_not_compared_for_time(column: str) -> None:
    base = side_of([row("p", r, decode_us=100.0, process_memory_rise_bytes=5) for r in range(10)])
    rows = [row("p", r, decode_us=200.0, process_memory_rise_bytes=5, **{column: "other"}) for r in range(10)]
    comparison = compare(base, side_of(rows), Rules(kinds=("timing", "memory")))
    found = comparison.verdicts.set_index("metric")
    assert found.loc["decode_us", "verdict"] == "inconclusive"
    assert column in found.loc["decode_us", "reason"]
    expected = "inconclusive" if column == "batch_digest" else "same"
    assert found.loc["process_memory_rise_bytes", "verdict"] == expected


def test_a_geometric_mean_finds_a_change_too_small_for_any_point() -> None:
    rng = np.random.default_rng(3)
    base, candidate = 100 * np.exp(rng.normal(0, 0.04, (2, 60, 9)))
    comparison = compare(timed(base), timed(1.05 * candidate), Rules())
    assert comparison.counts["regressed"] < 30
    mean = comparison.means.iloc[0]
    assert mean["verdict"] == "regressed"
    assert mean["key"] == "geometric mean of 60 points"
    logs = np.log(1.05 * candidate / base).mean(axis=0)
    assert np.log(mean["ratio"]) == pytest.approx((logs[::2].mean() + logs[1::2].mean()) / 2)
    assert comparison.exit_code == 3


def test_benjamini_hochberg_is_over_points_of_one_metric() -> None:
    rng = np.random.default_rng(1)
    base, candidate = 100 * np.exp(rng.normal(0, 0.01, (2, 30, 8)))
    found = compare(timed(base), timed(candidate * 1.04), Rules()).verdicts.sort_values("key")
    logs = np.log(1.04 * candidate / base)
    p = stats.ttest_1samp(logs, np.log(1.02), axis=1, alternative="greater").pvalue
    expected = pd.Series(stats.false_discovery_control(p), [f"p{i}" for i in range(30)]).sort_index()
    assert found["q_value"].tolist() == pytest.approx(expected.tolist())
    assert set(found.loc[found["q_value"] > 0.05, "verdict"]) <= {"inconclusive", "same"}


def test_runs_that_agree_exactly_need_no_interval() -> None:
    values = np.full((1, 10), 4096.0)
    same = compare(timed(values, "device_memory_bytes"), timed(values, "device_memory_bytes"), Rules())
    assert verdict(same) == "same"
    more = compare(timed(values, "device_memory_bytes"), timed(values * 2, "device_memory_bytes"), Rules())
    assert verdict(more) == "regressed"
    none = compare(timed(values * 0, "device_memory_bytes"), timed(values * 0, "device_memory_bytes"), Rules())
    assert verdict(none) == "same"
    some = compare(timed(values * 0, "device_memory_bytes"), timed(values, "device_memory_bytes"), Rules())
    assert verdict(some) == "inconclusive", "a ratio to zero is no ratio"


def test_ties_that_bca_cannot_handle_are_reported() -> None:
    base = np.full((1, 10), 1000.0)
    candidate = np.array([[1000.0] * 9 + [1001.0]])
    found = compare(timed(base), timed(candidate), Rules()).verdicts.iloc[0]
    assert (found["interval"], found["verdict"]) == ("percentile", "same")


@settings(deadline=None, max_examples=15)
@given(
    logs=st.lists(st.floats(-0.3, 0.3), min_size=5, max_size=9),
    shift=st.floats(-0.5, 0.5),
)
def test_swapping_the_sides_swaps_the_verdict(logs: list[float], shift: float) -> None:
    base, candidate = timed(np.full((1, len(logs)), 50.0)), timed(50 * np.exp(np.array([logs]) + shift))
    there, back = compare(base, candidate, Rules()), compare(candidate, base, Rules())
    mirrored = {"regressed": "improved", "improved": "regressed"}
    assert verdict(back) == mirrored.get(verdict(there), verdict(there))
    assert back.verdicts["ratio"].iloc[0] == pytest.approx(1 / there.verdicts["ratio"].iloc[0])


def test_a_metric_missing_from_the_candidate_is_not_ok() -> None:
    base = side_of([row("p", r, decode_us=100.0, append_us=1.0) for r in range(10)])
    candidate = side_of([row("p", r, decode_us=100.0) for r in range(10)])
    comparison = compare(base, candidate, Rules())
    assert comparison.counts["lost"] == 1
    assert comparison.exit_code == 4
    assert compare(candidate, base, Rules()).exit_code == 0, "a metric that is new is no fault"
