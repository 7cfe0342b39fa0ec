"""Invariants of rows: a wrong number is never ``ok``, when a row is written and when it is read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.rows.columns import COLUMNS, NAMES
from bench.rows.invariants import CEILING_MARGIN, PART_COLUMNS, first_broken
from bench.rows.record import SCHEMA_VERSION, read_row, row_path, write_row


def row(**changes: object) -> dict[str, object]:
    return {"key": "k", "replicate": 0, "status": "ok", "null_reasons": dict.fromkeys(NAMES, "a test"), **changes}


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    for part in ("points", "samples"):
        (tmp_path / part).mkdir()
    return tmp_path


PARTS_OF_10 = {**dict.fromkeys(PART_COLUMNS, 0), "live_bytes": 4, "free_bytes": 6, "pool_bytes": 10}
TIMED = {"decode_us": 10.0, "achieved_gbps": 100.0, "ceiling_gbps": 10.0, "ceiling_ratio": 10.0}  # reads 1 MB

BROKEN: list[tuple[dict[str, object], str]] = [
    ({"prefix_hit_ratio": 1.898}, "prefix_hit_ratio=1.898 must be between 0 and 1"),
    ({**PARTS_OF_10, "free_bytes": 9, "internal_fragmentation_bytes": -3}, "internal_fragmentation_bytes=-3"),
    ({**PARTS_OF_10, "cached_bytes": 5}, "sum to 15 bytes, and pool_bytes is 10"),
    ({"storage_bytes": 9, "logical_bytes": 10}, "storage_bytes=9 must be at least logical_bytes=10"),
    ({"decode_us": float("nan")}, "decode_us=nan must be finite"),
    ({"decode_us": float("inf")}, "decode_us=inf must be finite"),
    ({"decode_us": -1.0}, "decode_us=-1.0 must be at least 0"),
    ({"decode_us_low": 3.0, "decode_us": 2.0}, "decode_us_low=3.0 must be at most decode_us=2.0"),
    ({"ttft_ms_p50": 3.0, "ttft_ms_p99": 2.0}, "ttft_ms_p50=3.0 must be at most ttft_ms_p99=2.0"),
    ({"hit_pages": 3, "looked_up_pages": 2}, "hit_pages=3"),
    ({**TIMED, "l2_mode": "cold"}, "at most 1.25 is possible for a step that reads memory"),
    ({**TIMED, "l2_mode": "hot", "last_level_cache_bytes": 200_000}, "ceiling_gbps=10.0"),
]


@pytest.mark.parametrize(("changes", "sentence"), BROKEN, ids=lambda value: value if isinstance(value, str) else "")
def test_a_broken_invariant_is_incorrect_when_written_and_when_read(
    run_dir: Path, changes: dict[str, object], sentence: str
) -> None:
    assert write_row(run_dir, row(**changes), {}) == "incorrect"
    stored = json.loads(row_path(run_dir, "k", 0).read_text())
    assert stored["status"] == "incorrect"
    assert sentence in stored["status_reason"]
    by_hand = {name: value for name, value in changes.items() if value == value and abs(_number(value)) != float("inf")}
    if by_hand == changes:
        text = json.dumps({"schema_version": SCHEMA_VERSION, **row(**changes)})
        row_path(run_dir, "k", 0).write_text(text)
        read = read_row(row_path(run_dir, "k", 0))
        assert read["status"] == "incorrect"
        assert sentence in read["status_reason"]


def _number(value: object) -> float:
    return value if isinstance(value, float) else 0.0


@pytest.mark.parametrize(
    "changes",
    [
        {"prefix_hit_ratio": 1.0},
        PARTS_OF_10,
        {"storage_bytes": 10, "logical_bytes": 10},
        {**TIMED, "l2_mode": "hot", "last_level_cache_bytes": 250_000},  # 4 caches hold what the step reads
        {**TIMED, "l2_mode": "hot"},  # the size of the cache is unknown
        {**TIMED, "ceiling_ratio": CEILING_MARGIN, "l2_mode": "cold"},
        {"device_difference_bytes": -5},  # a difference has any sign
    ],
)
def test_a_row_at_a_bound_stays_ok(run_dir: Path, changes: dict[str, object]) -> None:
    assert write_row(run_dir, row(**changes), {}) == "ok"
    assert read_row(row_path(run_dir, "k", 0))["status"] == "ok"


def test_every_ratio_has_bounds_in_the_registry() -> None:
    """A share exceeds 1 in no row. The listed ratios are no shares."""
    no_share = {"cv_ratio", "slowdown_ratio", "ceiling_ratio", "decode_spread_ratio", "prefill_spread_ratio"}
    ratios = [column for column in COLUMNS if column.name.endswith("_ratio")]
    unbounded = {column.name for column in ratios if (column.limits or (0, 2))[1] > 1}
    assert unbounded == no_share


def test_another_status_is_left_alone() -> None:
    assert first_broken({"prefix_hit_ratio": 0.5}) is None


def test_samples_that_are_not_finite_are_null(run_dir: Path) -> None:
    write_row(run_dir, row(decode_us=float("nan")), {"decode": {"values_us": [1.0, float("nan")]}})
    assert json.loads((run_dir / "samples" / "k-0.json").read_text()) == {"decode": {"values_us": [1.0, None]}}
