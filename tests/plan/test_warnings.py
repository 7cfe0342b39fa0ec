"""The sweep warns if an axis cannot matter, and only then."""

from __future__ import annotations

import pytest

from bench.plan.warnings import warnings
from tests.support.points import Composed, plan_of

FIXED = {"name": "fixed", "length": 512}


def warned(*points: Composed, cache_bytes: int | None = None) -> tuple[str, ...]:
    return warnings(plan_of(*points).points, cache_bytes)


@pytest.mark.parametrize(("length", "expected"), [(512, True), (500, False)])
def test_lengths_that_every_page_size_divides_are_warned_about(length: int, expected: bool) -> None:
    workload = {"name": "fixed", "length": length}
    sentences = warned(*[Composed("workload=fixed", workload=workload, page_size=size) for size in (8, 16)])
    assert ("every length is a multiple of every page_size (8, 16)" in " ".join(sentences)) is expected


def test_one_page_size_is_not_warned_about() -> None:
    assert warned(Composed("workload=fixed", workload=FIXED)) == ()


@pytest.mark.parametrize(("small", "expected"), [("256MiB", True), ("32MiB", False)])
def test_a_budget_that_never_binds_is_warned_about(small: str, expected: bool) -> None:
    sentences = warned(*[Composed(memory_budget=budget) for budget in (small, "512MiB")])
    assert ("admits all sequences: num_seqs limits the batch" in " ".join(sentences)) is expected


def test_a_page_size_axis_that_changes_the_batch_is_warned_about() -> None:
    tight = [Composed(memory_budget="64MiB", page_size=size) for size in (16, 1024)]
    assert "different sequences are admitted" in " ".join(warned(*tight))
    ample = [Composed(page_size=size) for size in (16, 1024)]
    assert warned(*ample) == ()


@pytest.mark.parametrize(("cache_bytes", "expected"), [(2**30, True), (2**20, False), (None, False)])
def test_a_footprint_within_the_cache_is_warned_about(cache_bytes: int | None, expected: bool) -> None:
    sentences = warned(Composed(), cache_bytes=cache_bytes)
    assert ("in 1 of 1 points the live K and V of a layer" in " ".join(sentences)) is expected
