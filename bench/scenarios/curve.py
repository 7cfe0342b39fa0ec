"""The points of a stored curve: a bounded number, evenly spaced, of a series of unknown length."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

MAX_POINTS: Final = 128
"""Largest number of points of a stored curve. Their distance doubles whenever there would be more."""


@dataclass(kw_only=True)
class Curve:
    """Every n-th point of a series. n is the smallest power of two that keeps at most ``MAX_POINTS``.

    The points whose position is a multiple of n are kept.

    Attributes:
        seen: position of the next point.
        positions: positions of the kept points, ascending.
        points: the kept points.

    >>> curve = Curve()
    >>> for step in range(1000):
    ...     curve.add((step, 7))
    >>> curve.positions[:3], curve.points[1], len(curve.points)
    ([0, 8, 16], (8, 7), 125)
    """

    seen: int = 0
    positions: list[int] = field(default_factory=list)
    points: list[tuple[int, ...]] = field(default_factory=list)
    _stride: int = 1

    def add(self, point: tuple[int, ...]) -> None:
        """Keep the next point of the series, or leave it out."""
        position = self.seen
        self.seen += 1
        if position % self._stride:
            return
        self.positions.append(position)
        self.points.append(point)
        if len(self.points) > MAX_POINTS:
            self._stride *= 2
            odd = 1 if self.positions[0] % self._stride == 0 else 0  # the first point to leave out
            del self.positions[odd::2], self.points[odd::2]
