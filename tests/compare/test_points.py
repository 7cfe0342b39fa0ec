"""Missing, failed and incomparable points are reported and counted. Exit codes: 5 before 4 before 3 before 6."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from bench.compare import Comparison, Rules, Side, compare
from bench.rows.columns import BY_NAME, COLUMNS
from tests.support.sides import FACTS, row, side_of

COUNTERS = {"admitted_seqs": 8, "refused_seqs": 0, "peak_pages": 40, "preemptions": 2, "free_bytes": 64}


def counted(keys: str = "ab", status: str = "ok", replicates: int = 2, **changes: Any) -> Side:
    """Return points with counters only. The last one has the given status."""
    rows = []
    for key in keys:
        last = status if key == keys[-1] else "ok"
        values: Mapping[str, Any] = {**COUNTERS, **changes} if last == "ok" else {"status_reason": "for a reason"}
        rows += [row(key, replicate, status=last, **values) for replicate in range(replicates)]
    return side_of(rows)


def outcomes(comparison: Comparison) -> dict[str, str]:
    return comparison.points["outcome"].to_dict()


def test_equal_counters_are_the_same() -> None:
    comparison = compare(counted(), counted(), Rules())
    assert set(comparison.verdicts["verdict"]) == {"same"}
    assert len(comparison.verdicts) == 2 * len(COUNTERS)
    assert comparison.exit_code == 0


@pytest.mark.parametrize(
    ("metric", "value", "expected"),
    [
        ("peak_pages", 41, "regressed"),
        ("peak_pages", 39, "improved"),
        ("admitted_seqs", 7, "regressed"),
        ("admitted_seqs", 9, "improved"),
        ("refused_seqs", 1, "regressed"),
        ("preemptions", 3, "regressed"),
        ("free_bytes", 128, "regressed"),
    ],
)
def test_a_counter_that_moves_by_one_is_caught_with_a_single_run(metric: str, value: int, expected: str) -> None:
    comparison = compare(counted(replicates=1), counted(replicates=1, **{metric: value}), Rules())
    found = comparison.verdicts.set_index("metric").loc[[metric], "verdict"]
    assert set(found) == {expected}
    assert comparison.exit_code == (3 if expected == "regressed" else 0)


def test_labels_show_whole_numbers_if_other_points_have_no_value() -> None:
    rows = [row("a", page_size=16, peak_pages=1), row("b", page_size=4, peak_pages=1), row("c", peak_pages=1)]
    points = compare(side_of(rows), side_of(rows), Rules()).points
    assert points["point"].to_dict() == {"a": "a page_size=16", "b": "b page_size=4", "c": "c"}


def test_the_label_of_a_point_names_every_part_of_its_identity_that_varies() -> None:
    rows = [
        row(key, rate_per_s=rate, finished_requests=1, implementation="x") for key, rate in (("a", 2.0), ("b", 4.5))
    ]
    points = compare(side_of(rows), side_of(rows), Rules()).points
    assert points["point"].to_dict() == {"a": "x rate_per_s=2.0", "b": "x rate_per_s=4.5"}


@pytest.mark.parametrize(("change", "expected"), [(1e-10, "same"), (-1e-10, "same"), (1e-8, "regressed")])
def test_fractions_are_equal_to_their_tolerance(change: float, expected: str) -> None:
    value = 5.837696428715103
    comparison = compare(counted(itl_ms_mean=value), counted(itl_ms_mean=value * (1 + change)), Rules())
    found = comparison.verdicts.set_index("metric").loc[["itl_ms_mean"]]
    assert set(found["verdict"]) == {expected}
    assert set(found["candidate"]) == {value * (1 + change)}, "the table shows what was measured"
    assert found["reason"].str.startswith("equal to a relative 1e-09").all() == (expected == "same")


def test_replicates_that_differ_by_less_than_the_tolerance_are_deterministic() -> None:
    rows = [row("a", replicate, itl_ms_mean=5.8 * (1 + replicate * 1e-10)) for replicate in range(2)]
    assert compare(side_of(rows), side_of(rows), Rules()).counts["same"] == 1
    rows[1]["itl_ms_mean"] = 5.9
    assert compare(side_of(rows[:1]), side_of(rows), Rules()).counts["regressed"] == 1


def test_only_fractions_of_kind_exact_have_a_tolerance() -> None:
    assert {column.rel_tolerance for column in COLUMNS if column.kind != "exact"} == {0.0}
    assert BY_NAME["largest_free_ratio"].rel_tolerance == BY_NAME["finished_per_s"].rel_tolerance == 1e-9
    assert BY_NAME["peak_pages"].rel_tolerance == BY_NAME["batch_digest"].rel_tolerance == 0.0


def test_a_counter_without_direction_takes_that_of_another() -> None:
    comparison = compare(counted(), counted(peak_pages=39, free_bytes=128), Rules())
    assert comparison.counts["regressed"] == 0
    found = comparison.verdicts.set_index(["metric", "key"])
    assert found.loc[("free_bytes", "a"), "verdict"] == "inconclusive"


def test_a_counter_that_differs_between_replicates_is_refused() -> None:
    steady = side_of([row("a", r, peak_pages=4) for r in range(3)])
    wavering = side_of([row("a", r, peak_pages=4 + (r == 2)) for r in range(3)])
    assert compare(steady, wavering, Rules()).exit_code == 3
    comparison = compare(wavering, steady, Rules())
    assert "not deterministic" in comparison.verdicts["reason"].iloc[0]
    assert comparison.counts["inconclusive"] == 1


@pytest.mark.parametrize("status", ["unsupported", "oom_predicted", "skipped_dominated"])
def test_points_that_neither_side_can_run_are_not_missing(status: str) -> None:
    both = compare(counted(status=status), counted(status=status), Rules())
    assert outcomes(both) == {"a": "compared", "b": "not_run"}
    assert both.exit_code == 0
    for base, candidate in ((counted(), counted(status=status)), (counted(status=status), counted())):
        one = compare(base, candidate, Rules())
        assert outcomes(one)["b"] == "missing"
        assert one.exit_code == 4


@pytest.mark.parametrize("status", ["incorrect", "oom", "timeout", "crashed", "interrupted"])
def test_a_failed_point_is_incomplete_on_either_side(status: str) -> None:
    for base, candidate in ((counted(), counted(status=status)), (counted(status=status), counted())):
        comparison = compare(base, candidate, Rules())
        assert outcomes(comparison)["b"] == "failed"
        assert f"{status}: for a reason" in comparison.points["why"]["b"]
        assert comparison.exit_code == 4


def test_points_on_one_side_only_are_missing_unless_new_ones_are_allowed() -> None:
    fewer, more = counted("ab"), counted("abc")
    assert compare(fewer, more, Rules()).exit_code == 4
    allowed = compare(fewer, more, Rules(allow_new=True))
    assert outcomes(allowed)["c"] == "new"
    assert allowed.exit_code == 0
    assert compare(more, fewer, Rules(allow_new=True)).exit_code == 4, "what the candidate lacks is never new"


def test_planned_rows_without_a_file_are_missing() -> None:
    whole = counted()
    short = side_of([row("a", 0, **COUNTERS), row("b", 0, **COUNTERS)], planned={"a": 2, "b": 1, "never": 1})
    comparison = compare(short, whole, Rules())
    assert outcomes(comparison) == {"a": "missing", "b": "compared", "never": "missing"}
    assert "1 of 2 planned rows are missing" in comparison.points["why"]["a"]


def test_an_empty_intersection_is_never_green() -> None:
    comparison = compare(counted("ab"), counted("cd"), Rules(allow_new=True))
    assert comparison.is_empty
    assert comparison.exit_code == 4
    nothing = side_of([], planned={})
    assert compare(nothing, nothing, Rules()).exit_code == 4
    assert compare(counted(status="ok"), nothing, Rules()).exit_code == 4


def test_unlike_machines_are_refused_for_time_but_not_for_counters() -> None:
    slow = side_of([row("a", r, decode_us=200.0 + r, peak_pages=5) for r in range(6)])
    other = {**FACTS, "cpu_model": "another processor", "driver": "1", "fingerprint": "f01"}
    fast = side_of([row("a", r, decode_us=100.0 + r, peak_pages=4) for r in range(6)], facts=other)
    refused = compare(fast, slow, Rules())
    assert refused.exit_code == 5
    assert refused.machines.refused == ("cpu_model: another processor against a processor", "driver: 1 against None")
    assert set(refused.verdicts["metric"]) == {"peak_pages"}
    counters = compare(fast, slow, Rules(kinds=("exact",)))
    assert counters.exit_code == 3
    assert compare(fast, slow, Rules(allow_mismatch=("cpu_model",))).exit_code == 5
    allowed = compare(fast, slow, Rules(allow_mismatch=("cpu_model", "driver")))
    assert allowed.exit_code == 3
    assert len(allowed.machines.allowed) == 2
    assert "decode_us" in set(allowed.verdicts["metric"])
    with pytest.raises(ValueError, match="--allow-mismatch=colour is not known"):
        compare(fast, slow, Rules(allow_mismatch=("colour",)))


def test_rows_from_another_machine_than_their_run_are_refused() -> None:
    here = side_of([row("a", r, decode_us=100.0) for r in range(6)])
    there = side_of([row("a", r, decode_us=100.0, fingerprint="f99") for r in range(6)])
    assert compare(here, there, Rules()).exit_code == 5
    assert compare(here, there, Rules(allow_mismatch=("fingerprint",))).exit_code == 0


def test_exit_codes_have_a_precedence() -> None:
    """Not comparable, then incomplete, then regressed, then inconclusive."""
    regressed = {"peak_pages": 50}
    unlike = counted(**regressed, status="crashed")
    unlike = side_of(unlike.table.astype(object).where(unlike.table.notna(), None).to_dict("records"),  # type: ignore[arg-type]
                     facts={**FACTS, "cpu_model": "another"})  # fmt: skip
    assert compare(counted(), unlike, Rules(fail_on_inconclusive=True)).exit_code == 5
    assert compare(counted(), counted("abc", **regressed), Rules(fail_on_inconclusive=True)).exit_code == 4
    both = compare(counted(), counted(**regressed, free_bytes=1), Rules(fail_on_inconclusive=True))
    assert both.counts["inconclusive"] > 0
    assert both.exit_code == 3
    softer = compare(counted(), counted(peak_pages=39, free_bytes=1), Rules(fail_on_inconclusive=True))
    assert softer.exit_code == 6


def test_every_column_defines_how_it_is_compared() -> None:
    for column in COLUMNS:
        assert not (column.kind in ("timing", "memory") and not column.unit and column.judged), column.name
        if column.kind in ("timing", "memory") and column.judged:
            assert column.better in ("lower", "higher"), column.name
    assert BY_NAME["decode_us"].unit == "µs"
    assert not BY_NAME["decode_us_low"].judged
    with pytest.raises(ValueError, match="metric=decode_is is not known"):
        Rules(metrics=("decode_is",))
    with pytest.raises(ValueError, match="kind=time is not known"):
        Rules(kinds=("time",))
    with pytest.raises(ValueError, match=r"floor=2 must be at least 0 and below 1"):
        Rules(least_floor=2)
