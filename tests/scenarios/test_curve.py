"""A stored curve has a bounded number of evenly spaced points, whatever the length of its series."""

from __future__ import annotations

import doctest

import pytest

from bench.scenarios import curve as module
from bench.scenarios.curve import MAX_POINTS, Curve


def kept_before(first: int, length: int) -> list[int]:
    """The two loops that ``Curve`` replaced: positions from 0 lost the odd places, those from 1 the even places."""
    kept: list[int] = []
    stride = 1
    for position in range(first, first + length):
        if position % stride == 0:
            kept.append(position)
            if len(kept) > MAX_POINTS:
                del kept[(1 if first == 0 else 0) :: 2]
                stride *= 2
    return kept


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("length", [0, 1, MAX_POINTS, MAX_POINTS + 1, 2 * MAX_POINTS + 1, 5000])
def test_the_points_are_those_of_earlier_versions(first: int, length: int) -> None:
    curve = Curve(seen=first)
    for position in range(first, first + length):
        curve.add((position,))
    assert curve.positions == kept_before(first, length)
    assert [point for (point,) in curve.points] == curve.positions


def test_the_distance_of_the_points_is_one_power_of_two() -> None:
    curve = Curve()
    for step in range(100_000):
        curve.add((step,))
    assert {later - earlier for earlier, later in zip(curve.positions, curve.positions[1:], strict=False)} == {1024}
    assert MAX_POINTS / 2 <= len(curve.points) <= MAX_POINTS


def test_the_example_in_the_docstring_is_true() -> None:
    assert doctest.testmod(module).failed == 0
