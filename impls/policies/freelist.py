"""Free pages, last in, first out."""

from __future__ import annotations

from collections.abc import Sequence


class FreeList:
    """A stack of page numbers that is taken from and given to by whole runs.

    Args:
        order: the pages, in the order in which they are to be handed out.

    >>> free = FreeList(range(4))
    >>> free.take(3), len(free)
    ([0, 1, 2], 1)
    >>> free.give([1, 2])
    >>> free.take(3)
    [1, 2, 3]
    """

    __slots__ = ("_stack",)

    def __init__(self, order: Sequence[int]) -> None:
        self._stack = list(reversed(order))

    def __len__(self) -> int:
        return len(self._stack)

    def take(self, count: int) -> list[int]:
        """Hand out the next ``count`` pages; that there are so many is the caller's to check."""
        stack = self._stack
        pages = stack[: -count - 1 : -1]
        del stack[len(stack) - count :]
        return pages

    def give(self, pages: list[int]) -> None:
        """Take pages back; they are handed out again first, and in this order."""
        self._stack += pages[::-1]
