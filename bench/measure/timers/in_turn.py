"""Take samples block by block, alternating with the process of the other side."""

from __future__ import annotations

import time
from collections.abc import Callable

from bench.measure.machine.host_state import elsewhere
from bench.measure.stopping import Collected, StoppingRule, collect
from bench.measure.turns import Turns

BLOCK_S = 0.02
"""Duration of one turn: long compared with a change of sides, short compared with a slow phase of the machine."""

REST_S = 0.005
"""Idle time of this process before it gives its turn away."""

REST_LIMIT_S = 0.3
"""Longest wait for that. Threads of some OpenMP libraries stay busy for 0.2 s."""


def collect_in_turn(take: Callable[[], list[float]], rule: StoppingRule, turns: Turns) -> Collected:
    """Collect blocks of ``BLOCK_S`` that alternate with the other side, until both sides have enough samples."""

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
    """Wait until our other threads sleep. Idle OpenMP threads spin for a while and would slow the other side."""
    began, busy_s = time.perf_counter(), REST_S
    while busy_s > REST_S / 5 and time.perf_counter() - began < REST_LIMIT_S:
        before = time.process_time()
        time.sleep(REST_S)
        busy_s = time.process_time() - before
