"""Free pages, last in, first out."""

from __future__ import annotations

from collections.abc import Sequence


class FreeList(list[int]):
    """A stack of page numbers, its top at the end, that is taken from and given to by whole runs.

    Args:
        order: the pages, in the order in which they are to be handed out.

    >>> free = FreeList(range(4))
    >>> free.take(3), len(free)
    ([0, 1, 2], 1)
    >>> free.give([1, 2])
    >>> free.take(3)
    [1, 2, 3]
    """

    def __init__(self, order: Sequence[int]) -> None:
        super().__init__(reversed(order))

    def take(self, count: int) -> list[int]:
        """Hand out the next ``count`` pages; that there are so many is the caller's to check."""
        pages = self[: -count - 1 : -1]
        del self[len(self) - count :]
        return pages

    def give(self, pages: list[int]) -> None:
        """Take pages back; they are handed out again first, and in this order."""
        self += pages[::-1]
