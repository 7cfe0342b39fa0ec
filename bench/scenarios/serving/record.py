"""The record of a replay of scenario ``serving``, in integers only, so that two engines can agree."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

from bench.scenarios.bookkeeping import PARTS
from bench.scenarios.curve import Curve
from impls.policies import SlotSplit


class Gaps(NamedTuple):
    """Times between two tokens: ``seqs`` sequences in each of ``steps`` steps of linearly growing duration."""

    first_fs: int
    slope_fs: int
    steps: int
    seqs: int


@dataclass(kw_only=True)
class Totals:
    """Sums over time, of quantities multiplied by femtoseconds.

    Attributes:
        time_fs: time of the steps.
        parts: slots of each part of the pool.
        saved_tokens: slots that sharing saves.
        saved_pages: pages that sharing saves.
        requests: requests in the step.
        seqs: sequences in the step.
    """

    time_fs: int = 0
    parts: list[int] = field(default_factory=lambda: [0] * len(PARTS))
    saved_tokens: int = 0
    saved_pages: int = 0
    requests: int = 0
    seqs: int = 0


@dataclass(kw_only=True)
class Record:
    """All values of one replay from which its metrics are computed.

    Attributes:
        admitted_fs: first admission of each request. -1: never.
        first_fs: time of its first token. -1: never.
        last_fs: time of its newest token. -1: never.
        generated: output tokens of each of its sequences.
        finished: whether it has all output tokens.
        refused: requests that could never fit.
        gaps: times between tokens.
        totals: sums over the steps that began with requests still to be admitted.
        running_fs: requests times femtoseconds, over all steps.
        busy_fs: time of all steps.
        end_fs: end of the replay.
        count: exact counts, by name.
        curve: time, requests running and waiting, and the pool's parts, at some of the steps.
    """

    admitted_fs: list[int]
    first_fs: list[int]
    last_fs: list[int]
    generated: list[int]
    finished: list[bool]
    refused: list[int] = field(default_factory=list)
    gaps: list[Gaps] = field(default_factory=list)
    totals: Totals = field(default_factory=Totals)
    running_fs: int = 0
    busy_fs: int = 0
    end_fs: int = 0
    count: Counter[str] = field(default_factory=Counter)
    curve: Curve = field(default_factory=lambda: Curve(seen=1))

    @classmethod
    def of(cls, number: int) -> Record:
        """Return an empty record of this many requests."""
        nothing = [-1] * number
        return cls(admitted_fs=nothing.copy(), first_fs=nothing.copy(), last_fs=nothing.copy(),
                   generated=[0] * number, finished=[False] * number)  # fmt: skip

    def add_step(self, step_fs: int, split: SlotSplit, saved: tuple[int, int], requests: int, seqs: int) -> None:
        """Add one step with requests still to be admitted.

        Args:
            step_fs: duration of the step.
            split: split of the pool during the step.
            saved: tokens and pages that sharing saves.
            requests: requests in the step.
            seqs: sequences in the step.
        """
        totals, parts = self.totals, self.totals.parts
        totals.time_fs += step_fs
        parts[:] = [total + slots * step_fs for total, slots in zip(parts, split, strict=True)]
        totals.saved_tokens += saved[0] * step_fs
        totals.saved_pages += saved[1] * step_fs
        totals.requests += requests * step_fs
        totals.seqs += seqs * step_fs

    def sample(self, now_fs: int, running: int, waiting: int, split: SlotSplit) -> None:
        """Offer one step to the curves."""
        self.curve.add((now_fs, running, waiting, *split))

    def add_token(self, index: int, now_fs: int) -> None:
        """Record a token of a request, and the time of its first."""
        if self.first_fs[index] < 0:
            self.first_fs[index] = now_fs
        self.last_fs[index] = now_fs
