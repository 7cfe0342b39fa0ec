"""The requests that run, for the engine that goes by events: most of their sequences grow in lockstep.

Lengths stand on the batch's clock, which moves by one with every step that decodes, so that a step touches only
those sequences that need a page. Beams cross after every step and grow by request (``Family``).
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from bench.scenarios.serving.groups import Group
from bench.scenarios.serving.memory import Memory
from impls.policies import Family, Lockstep, is_paged


@dataclass(slots=True)
class Sizes:
    """How large the batch is, kept up to date as requests join and leave.

    Attributes:
        seqs: sequences.
        base: prompt and ``Group.base`` of each sequence, summed: its length less the clock, plus one.
    """

    seqs: int = 0
    base: int = 0


class RunningBatch:
    """Running requests, in order of arrival.

    Args:
        memory: where they are held.
        crossing: whether sequences of a request go on sharing pages (beams).
    """

    def __init__(self, memory: Memory, *, crossing: bool = False) -> None:
        self.memory = memory
        self.pool = memory.policy if is_paged(memory.policy) else None
        self.lockstep = Lockstep(memory.policy)
        self.clock = 0
        self.sizes = Sizes()
        self.groups: dict[int, Group] = {}
        self.loose: dict[int, Group] = {}  # whose sequences share a last page: they append one by one, once
        self.families: dict[int, Family] = {}  # of requests whose beams cross
        self._family_pool = self.pool if crossing else None
        self._ending: defaultdict[int, list[Group]] = defaultdict(list)  # by the clock then
        self._end_clocks: list[int] = []  # a heap; of those that left before, too

    @property
    def context(self) -> int:
        """Tokens of all sequences, summed."""
        return self.sizes.base + self.sizes.seqs * (self.clock - 1)

    @property
    def steps_to_end(self) -> int:
        """Steps until the next request gets its last token."""
        heap = self._end_clocks
        while heap[0] not in self._ending:
            heapq.heappop(heap)
        return heap[0] - self.clock

    def generated(self, group: Group) -> int:
        """Tokens that each sequence of a running request has, the one of the present step included."""
        return group.base + self.clock

    def join(self, group: Group) -> None:
        """Take in a request that gets its next token in the present step."""
        group.base = group.generated + 1 - self.clock
        count = len(group.seq_ids)
        self.sizes.seqs += count
        self.sizes.base += count * (group.prompt + group.base)
        in_order = not self.groups or group.index > next(reversed(self.groups))
        self.groups[group.index] = group
        if not in_order:  # it was out while a later one came in
            self.groups = dict(sorted(self.groups.items()))
        end = group.output - group.base
        if end not in self._ending:
            heapq.heappush(self._end_clocks, end)
        self._ending[end].append(group)
        if count > 1 and self.pool and self.pool.shares_last_page(group.seq_ids[0]):
            self.loose[group.index] = group
        else:
            self._step_together(group)

    def leave(self, group: Group) -> None:
        """Take out a request before its end; it keeps its memory and the tokens that it has."""
        end = group.output - group.base
        self._ending[end].remove(group)
        if not self._ending[end]:
            del self._ending[end]
        self._take_out(group)

    def pop_finished(self) -> list[Group]:
        """Take out, and free, those that get their last token in the present step."""
        finished = self._ending.pop(self.clock, [])
        for group in finished:
            self._take_out(group)
            self.memory.free(group)
        return finished

    def needs_room(self) -> bool:
        """Whether the next step finds too few pages: each request, oldest first, wants one free per sequence."""
        if self.pool is None or not self.groups:
            return False
        newest = self.groups[next(reversed(self.groups))]
        if self.pool.available_pages >= self.sizes.seqs + len(newest.seq_ids):
            return False  # a sequence takes a page at most, a copy of a shared one included
        left = self.pool.available_pages - self._next_pages()
        count = len(newest.seq_ids)
        return left < count and left + self.pages_for(newest) < count

    def pages_for(self, group: Group) -> int:
        """Pages that a request takes in the next step."""
        assert self.pool is not None
        if group.index in self.families:
            return self.families[group.index].pages_for_next
        if group.index in self.loose:
            return self.pool.pages_for_next(group.seq_ids)
        stored = group.prompt + group.base + self.clock - 1
        return 0 if stored % self.pool.page_size else len(group.seq_ids)

    def affordable_steps(self, most: int) -> list[int]:
        """Pages that each of the next steps takes, up to the first after which a page per sequence is not left."""
        if self.pool is None:
            return [0] * most
        spare = self.pool.available_pages - max((len(group.seq_ids) for group in self._any_group()), default=0)
        pages = self.lockstep.next_pages(most)
        for step, count in enumerate(pages):
            spare -= count
            if spare < 0:
                return pages[:step]
        return pages

    def grow(self) -> None:
        """A slot for the token that each sequence generated last; the clock moves."""
        self.lockstep.advance(1)
        self.clock += 1
        for family in self.families.values():
            family.grow()
        for group in list(self.loose.values()):
            for seq_id in group.seq_ids:
                self.memory.policy.append(seq_id)
            del self.loose[group.index]
            self._step_together(group)

    def cross(self, group: Group, forks: Sequence[tuple[int, int]]) -> int:
        """Let a running request's beams become copies of others; returns the tokens to be copied for that now."""
        if group.index in self.families:
            self.families[group.index].cross(forks)
            return 0
        return self.memory.cross(group, forks, self.generated(group))

    def advance(self, steps: int) -> None:
        """As many ``grow``, where all grow in lockstep and there is room."""
        self.lockstep.advance(steps)
        self.clock += steps

    def _any_group(self) -> list[Group]:
        return [next(iter(self.groups.values()))] if self.groups else []

    def _next_pages(self) -> int:
        pages = self.lockstep.due_pages + sum(family.pages_for_next for family in self.families.values())
        return pages + sum(self.pages_for(group) for group in self.loose.values())

    def _step_together(self, group: Group) -> None:
        """Let a request's sequences grow in lockstep; one that ends with this step grows no more."""
        if self._family_pool is not None:
            self.families[group.index] = Family(self._family_pool, group.seq_ids)
            return
        for seq_id in group.seq_ids:
            self.lockstep.join(seq_id)

    def _take_out(self, group: Group) -> None:
        count = len(group.seq_ids)
        self.sizes.seqs -= count
        self.sizes.base -= count * (group.prompt + group.base)
        del self.groups[group.index]
        if (family := self.families.pop(group.index, None)) is not None:
            family.leave()
        elif self.loose.pop(group.index, None) is None:
            for seq_id in group.seq_ids:
                self.lockstep.leave(seq_id)
        group.generated = group.base + self.clock
