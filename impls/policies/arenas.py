"""Arenas of contiguous regions: first fit over exact sizes, and the buddy arena of the paper's baselines."""

from __future__ import annotations

from bisect import bisect_left
from typing import Final

from impls.spec import ceil_div

UNIT_TOKENS: Final = 16
"""Tokens in the smallest chunk of the buddy arena (Orca baselines of the PagedAttention paper)."""


class FirstFitArena:
    """A row of slots. A region is cut from the first gap that is large enough, and adjacent gaps are joined."""

    def __init__(self, num_slots: int) -> None:
        self._gaps: list[tuple[int, int]] = [(0, num_slots)]  # (first slot, slots), ascending, never adjacent
        self.largest_ever = num_slots

    @property
    def largest_free(self) -> int:
        """Slots of the largest gap."""
        return max((size for _, size in self._gaps), default=0)

    def take(self, requested: int) -> tuple[int, int]:
        """Cut a region of ``requested`` slots. The caller has checked ``requested <= largest_free``.

        Returns:
            First slot and number of slots.
        """
        index = next(i for i, (_, size) in enumerate(self._gaps) if size >= requested)
        start, size = self._gaps[index]
        self._gaps[index : index + 1] = [(start + requested, size - requested)] if size > requested else []
        return start, requested

    def give(self, start: int, size: int) -> None:
        """Return a region to the arena and join it with adjacent gaps."""
        index = bisect_left(self._gaps, (start, 0))
        end = start + size
        last = index
        if index < len(self._gaps) and self._gaps[index][0] == end:
            end += self._gaps[index][1]
            last += 1
        if index and sum(self._gaps[index - 1]) == start:
            index -= 1
            start = self._gaps[index][0]
        self._gaps[index:last] = [(start, end - start)]

    def usable_slots(self, requested: int) -> int:
        """Return the slots that greedily placed copies of a region of ``requested`` slots would take."""
        return sum(size // requested * requested for _, size in self._gaps)


class BuddyArena:
    """Chunks of a power of two units of 16 tokens (Orca baselines of the PagedAttention paper).

    The arena is cut greedily into chunks for the longest sequence, and the rest into smaller powers of two.
    983 units make 7 x 128, 64, 16, 4, 2 and 1. Slots beyond the last whole unit are never used. A region gets the
    smallest chunk that is large enough, and of several such chunks the one that was freed last. What a cut leaves over
    and what a join makes counts as freed at that time.
    """

    def __init__(self, num_slots: int, max_seq_len: int) -> None:
        self._top_order = (ceil_div(max_seq_len, UNIT_TOKENS) - 1).bit_length()
        self._free: list[list[int]] = [[] for _ in range(self._top_order + 1)]  # by order: first units, newest last
        start, units = 0, num_slots // UNIT_TOKENS
        for order in reversed(range(self._top_order + 1)):
            while units >= 1 << order:
                self._free[order].append(start)
                start += 1 << order
                units -= 1 << order
        self._free[self._top_order].reverse()  # the lowest address is taken first
        self.largest_ever = self.largest_free

    @property
    def largest_free(self) -> int:
        """Slots of the largest free chunk."""
        return max((UNIT_TOKENS << order for order, starts in enumerate(self._free) if starts), default=0)

    def take(self, requested: int) -> tuple[int, int]:
        """Cut a chunk for ``requested`` slots. The caller has checked ``requested <= largest_free``.

        Returns:
            First slot and number of slots, which is rounded up to the size of the chunk.
        """
        order = _order_of(requested)
        found = next(o for o in range(order, self._top_order + 1) if self._free[o])
        start = self._free[found].pop()
        for smaller in reversed(range(order, found)):
            self._free[smaller].append(start + (1 << smaller))
        return start * UNIT_TOKENS, UNIT_TOKENS << order

    def give(self, start: int, size: int) -> None:
        """Return a chunk to the arena and join it with its buddy as long as the buddy is free."""
        unit, order = start // UNIT_TOKENS, _order_of(size)
        while order < self._top_order and (buddy := unit ^ (1 << order)) in self._free[order]:
            self._free[order].remove(buddy)
            unit = min(unit, buddy)
            order += 1
        self._free[order].append(unit)

    def usable_slots(self, requested: int) -> int:
        """Return the slots that greedily placed copies of a region of ``requested`` slots would take."""
        order = _order_of(requested)
        return sum(len(starts) << o for o, starts in enumerate(self._free) if o >= order) * UNIT_TOKENS


def _order_of(slots: int) -> int:
    """Return the exponent of the smallest power of two of units that hold ``slots``."""
    return (ceil_div(slots, UNIT_TOKENS) - 1).bit_length()
