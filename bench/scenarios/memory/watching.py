"""Record a queue at every step: sums for means over time, and some steps for a curve. No torch."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from bench.scenarios.bookkeeping import PARTS
from bench.scenarios.curve import Curve
from bench.scenarios.exact_statistics import TICKS, ticks
from impls.policies import SaturatedQueue, is_reserved

CHUNK_STEPS = 4096
"""Steps that are kept until they are summed. A sum per step would cost as much as the step."""

RUNNING, ROUNDING = len(PARTS), len(PARTS) + 1
"""Columns of the running sequences and of the slots that buddies add, after those of the parts."""


@dataclass(kw_only=True)
class Watched:
    """The record of a pool over time.

    A line has the six parts in slots, the running sequences, and the slots of internal fragmentation due to buddies,
    whose sizes are powers of two.

    Attributes:
        steps: number of steps in the sums.
        sums: int64 ``[8]``, lines summed over those steps.
        largest_free: ``largest_free_ratio`` in units of ``1 / TICKS``, summed over those steps.
        curve: the lines at some of the steps.
    """

    steps: int = 0
    sums: NDArray[np.int64] = field(default_factory=lambda: np.zeros(ROUNDING + 1, dtype=np.int64))
    largest_free: int = 0
    curve: Curve = field(default_factory=Curve)


def watch(queue: SaturatedQueue) -> Watched:
    """Run a queue to its end.

    The sums cover the steps in which requests were still to be admitted. Later steps show how a pool
    empties, not how it is used. If all requests enter at once, the sums cover all steps.
    """
    loaded, draining = Watched(), Watched()
    lines: list[tuple[int, ...]] = []
    ratios: list[int] = []
    batch, policy = queue.batch, queue.batch.policy
    regions = policy if is_reserved(policy) else None  # all pages are equal
    was_loaded = True
    for split in queue.steps():
        if len(lines) == CHUNK_STEPS or queue.is_loaded != was_loaded:
            _sum(loaded if was_loaded else draining, lines, ratios)
            was_loaded = queue.is_loaded
        line = (*split, batch.num_seqs, regions.rounding_slots if regions is not None else 0)
        lines.append(line)
        if regions is not None:
            unheld = split.free + split.external
            ratios.append(ticks(regions.largest_free_slots, unheld) if unheld else TICKS)
        loaded.curve.add(line)
    _sum(loaded if was_loaded else draining, lines, ratios)
    if loaded.steps:
        return loaded
    draining.curve = loaded.curve
    return draining


def _sum(watched: Watched, lines: list[tuple[int, ...]], ratios: list[int]) -> None:
    """Add the kept steps to the sums, and drop them."""
    if lines:
        watched.steps += len(lines)
        watched.sums += np.array(lines, dtype=np.int64).sum(axis=0)
        watched.largest_free += sum(ratios) if ratios else len(lines) * TICKS
    lines.clear()
    ratios.clear()
