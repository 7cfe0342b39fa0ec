"""The running requests of the events engine, most of whose sequences grow in lockstep.

Lengths are relative to the clock of the batch, which advances by one with every decoding step. A step then touches
only sequences that need a page. Beams cross after every step and grow by request (``Family``).
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
    """Size of the batch, updated when requests join and leave.

    Attributes:
        seqs: number of sequences.
        base: sum of prompt and ``Group.base`` of each sequence, which is its length minus the clock, plus one.
    """

    seqs: int = 0
    base: int = 0


class RunningBatch:
    """Running requests, in order of arrival.

    Args:
        memory: the memory of their sequences.
        crossing: whether sequences of a request keep sharing pages (beams).
    """

    def __init__(self, memory: Memory, *, crossing: bool = False) -> None:
        self.memory = memory
        self.pool = memory.policy if is_paged(memory.policy) else None
        self.lockstep = Lockstep(memory.policy)
        self.clock = 0
        self.sizes = Sizes()
        self.groups: dict[int, Group] = {}
        self.loose: dict[int, Group] = {}  # their sequences share a last page, and append one by one once
        self.families: dict[int, Family] = {}  # of requests whose beams cross
        self._family_pool = self.pool if crossing else None
        self._ending: defaultdict[int, list[Group]] = defaultdict(list)  # by the clock then
        self._end_clocks: list[int] = []  # a heap, which may contain requests that left earlier

    @property
    def context(self) -> int:
        """Sum of the tokens of all sequences."""
        return self.sizes.base + self.sizes.seqs * (self.clock - 1)

    @property
    def steps_to_end(self) -> int:
        """Steps until the next request gets its last token."""
        heap = self._end_clocks
        while heap[0] not in self._ending:
            heapq.heappop(heap)
        return heap[0] - self.clock

    def generated(self, group: Group) -> int:
        """Return the output tokens of each sequence of a running request, including that of the present step."""
        return group.base + self.clock

    def join(self, group: Group) -> None:
        """Add a request that gets its next token in the present step."""
        group.base = group.generated + 1 - self.clock
        count = len(group.seq_ids)
        self.sizes.seqs += count
        self.sizes.base += count * (group.prompt + group.base)
        in_order = not self.groups or group.arrival_fs >= self.groups[next(reversed(self.groups))].arrival_fs
        self.groups[group.index] = group
        if not in_order:  # it was outside while a later one joined
            self.groups = dict(sorted(self.groups.items(), key=lambda item: item[1].arrival_fs))
        end = group.output - group.base
        if end not in self._ending:
            heapq.heappush(self._end_clocks, end)
        self._ending[end].append(group)
        if count > 1 and self.pool and self.pool.shares_last_page(group.seq_ids[0]):
            self.loose[group.index] = group
        else:
            self._step_together(group)

    def leave(self, group: Group) -> None:
        """Remove a request before its end. It keeps its memory and its tokens."""
        end = group.output - group.base
        self._ending[end].remove(group)
        if not self._ending[end]:
            del self._ending[end]
        self._take_out(group)

    def pop_finished(self) -> list[Group]:
        """Remove and free the requests that get their last token in the present step, in order of arrival."""
        finished = sorted(self._ending.pop(self.clock, []), key=lambda group: group.arrival_fs)
        for group in finished:
            self._take_out(group)
            self.memory.free(group)
        return finished

    def needs_room(self) -> bool:
        """Return whether pages are short: each request, oldest first, needs one free page per sequence."""
        if self.pool is None or not self.groups:
            return False
        newest = self.groups[next(reversed(self.groups))]
        if self.pool.available_pages >= self.sizes.seqs + len(newest.seq_ids):
            return False  # a sequence takes at most one page, including a copy of a shared one
        left = self.pool.available_pages - self._next_pages()
        count = len(newest.seq_ids)
        return left < count and left + self.pages_for(newest) < count

    def pages_for(self, group: Group) -> int:
        """Return the pages that a request takes in the next step."""
        assert self.pool is not None
        if group.index in self.families:
            return self.families[group.index].pages_for_next
        if group.index in self.loose:
            return self.pool.pages_for_next(group.seq_ids)
        stored = group.prompt + group.base + self.clock - 1
        return 0 if stored % self.pool.page_size else len(group.seq_ids)

    def affordable_steps(self, most: int) -> list[int]:
        """Return the pages of each next step, up to the first that leaves less than a free page per sequence."""
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
        """Take a slot for the last generated token of each sequence, and advance the clock."""
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
        """Let beams of a running request become copies of others. Return the slots to copy now."""
        if group.index in self.families:
            self.families[group.index].cross(forks)
            return 0
        return self.memory.cross(group, forks)

    def advance(self, steps: int) -> None:
        """Do this many ``grow`` at once, where all grow in lockstep and there is room."""
        self.lockstep.advance(steps)
        self.clock += steps

    def _any_group(self) -> list[Group]:
        return [next(iter(self.groups.values()))] if self.groups else []

    def _next_pages(self) -> int:
        pages = self.lockstep.due_pages + sum(family.pages_for_next for family in self.families.values())
        return pages + sum(self.pages_for(group) for group in self.loose.values())

    def _step_together(self, group: Group) -> None:
        """Let the sequences of a request grow in lockstep. One that ends with this step stops growing."""
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
