"""Samples taken block by block, in turn with the process that measures the same on the other side."""

from __future__ import annotations

import time
from collections.abc import Callable

from bench.measure.machine.host_state import elsewhere
from bench.measure.stopping import Collected, StoppingRule, collect
from bench.measure.turns import Turns

BLOCK_S = 0.02
"""Samples of one turn: long beside the change of places, short beside what slows a shared machine down."""

REST_S = 0.005
"""How long this process must have been idle before it gives its turn away."""

REST_LIMIT_S = 0.3
"""When it does so all the same; some OpenMP libraries look for work for 0.2 s."""


def collect_in_turn(take: Callable[[], list[float]], rule: StoppingRule, turns: Turns) -> Collected:
    """``collect`` by blocks of ``BLOCK_S``, each followed by one of the other side, until both sides have enough."""

    def take_block() -> list[float]:
        began, samples = time.perf_counter(), take()
        while time.perf_counter() - began < BLOCK_S:
            samples += take()
        return samples

    def settled(enough: bool) -> bool:
        _rest()
        with elsewhere():
            return turns.give(enough=enough)

    return collect(take_block, rule, settled=settled)


def _rest() -> None:
    """Wait until our other threads sleep: those of OpenMP look for more work for a while, on the other side's core."""
    began, busy_s = time.perf_counter(), REST_S
    while busy_s > REST_S / 5 and time.perf_counter() - began < REST_LIMIT_S:
        before = time.process_time()
        time.sleep(REST_S)
        busy_s = time.process_time() - before
