"""Numbers as text: whole numbers in full, fractions to four digits, bytes as MiB or GiB."""

from __future__ import annotations

import doctest

import pytest

from bench.config import numbers
from bench.config.numbers import change_text, exact_size_text, number_text, size_text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (-1234567, "-1,234,567"),
        (1234567, "1,234,567"),
        (999.96, "1,000"),
        (1000.4, "1,000"),
        (99999.6, "100,000"),
        (0.1, "0.1"),
        (1 / 3, "0.3333"),
        (float("inf"), "inf"),
    ],
)
def test_numbers(value: float, text: str) -> None:
    assert number_text(value) == text


def test_a_size_is_never_shortened_where_two_counters_are_compared() -> None:
    assert size_text(2**30 + 1) == "1 GiB"
    assert exact_size_text(2**30) == "1 GiB"
    assert exact_size_text(2**30 + 1) == "1,073,741,825"
    assert exact_size_text(0) == "0 MiB"


def test_changes_have_a_sign() -> None:
    assert [change_text(ratio) for ratio in (1.0, 2.0, 0.975)] == ["+0.0 %", "+100.0 %", "-2.5 %"]


def test_the_examples_in_the_docstrings_are_true() -> None:
    assert doctest.testmod(numbers).failed == 0
