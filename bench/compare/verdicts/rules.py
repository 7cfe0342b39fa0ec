"""The rules of a comparison, in one frozen object."""

from __future__ import annotations

from dataclasses import dataclass

from bench.config import one_of
from bench.rows.columns import BY_NAME, COLUMNS, Column

COMPARED_KINDS = ("exact", "timing", "memory")
"""Kinds of columns that are judged."""

REGRESSED, IMPROVED, SAME = "regressed", "improved", "same"
INCONCLUSIVE, INSUFFICIENT = "inconclusive", "insufficient"

VERDICTS = (REGRESSED, IMPROVED, INCONCLUSIVE, INSUFFICIENT, SAME)
"""Worst first."""


@dataclass(frozen=True, kw_only=True)
class Rules:
    """How two runs are compared.

    Attributes:
        confidence: level of every interval.
        least_floor: smallest difference that counts, as a fraction (0.02: 2 %).
        min_pairs: least number of pairs for a verdict.
        bootstrap_from: number of pairs from which median and BCa bootstrap replace mean and Student t.
        resamples: number of resamples of a bootstrap.
        false_discovery_rate: level of Benjamini–Hochberg over points.
        allow_mismatch: blocking facts that may differ.
        allow_new: accept points that the base never planned.
        fail_on_inconclusive: exit 6 if a verdict is inconclusive or insufficient.
        kinds: kinds of columns to judge.
        metrics: columns to judge. Empty for all.
        ignore: columns not to judge.
    """

    confidence: float = 0.95
    least_floor: float = 0.02
    min_pairs: int = 5
    bootstrap_from: int = 10
    resamples: int = 9999
    false_discovery_rate: float = 0.05
    allow_mismatch: tuple[str, ...] = ()
    allow_new: bool = False
    fail_on_inconclusive: bool = False
    kinds: tuple[str, ...] = COMPARED_KINDS
    metrics: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.least_floor < 1:
            raise ValueError(f"floor={self.least_floor} must be at least 0 and below 1 (0.02 is 2 %)")
        for kind in self.kinds:
            one_of(kind, COMPARED_KINDS, "kind")
        for name in (*self.metrics, *self.ignore):
            one_of(name, [column.name for column in COLUMNS if column.judged or column.on_request], "metric")

    @property
    def columns(self) -> tuple[Column, ...]:
        """The columns to judge, in the order of the registry."""
        return tuple(
            column
            for column in COLUMNS
            if (column.name in self.metrics if self.metrics else column.judged)
            and column.kind in self.kinds
            and column.name not in self.ignore
        )

    @property
    def needs_like_machines(self) -> bool:
        """Whether times or bytes are judged, which needs like machines."""
        return any(column.kind != "exact" for column in self.columns)


def unit_of(metric: str) -> str:
    """Return the unit of a column."""
    return BY_NAME[metric].unit
