"""Runs of equal decoding steps: their duration and sums over their time, in closed form."""

from __future__ import annotations

from math import isqrt
from typing import NamedTuple


class Run(NamedTuple):
    """Decoding steps between two events. Each is longer than the one before by the same amount."""

    first_fs: int
    slope_fs: int

    def duration_fs(self, steps: int) -> int:
        """Return the time of this many steps."""
        return steps * self.first_fs + self.slope_fs * (steps * (steps - 1) // 2)

    def steps_until(self, time_fs: int) -> int:
        """Return the least number of steps that take at least this long."""
        if time_fs <= 0:
            return 0
        if self.slope_fs == 0:
            return -(-time_fs // self.first_fs)
        linear = 2 * self.first_fs - self.slope_fs
        steps = (isqrt(linear * linear + 8 * self.slope_fs * time_fs) - linear) // (2 * self.slope_fs)
        while self.duration_fs(steps) < time_fs:
            steps += 1
        return steps


def from_then_on(run: Run, duration_fs: int, amounts: list[int]) -> int:
    """Return the sum of the amount that each step adds, times the time from that step to the end."""
    total, left_fs, step_fs = 0, duration_fs, run.first_fs
    for amount in amounts:
        if amount:
            total += amount * left_fs
        left_fs -= step_fs
        step_fs += run.slope_fs
    return total


def evicted_slots(run: Run, slots: list[int], free: int) -> int:
    """Return slots of cached pages that are evicted once the free ones are taken, summed over time."""
    total = evicted = 0
    for step, count in enumerate(slots):
        total += count
        evicted += max(total - free, 0) * (run.duration_fs(step + 1) - run.duration_fs(step))
    return evicted
