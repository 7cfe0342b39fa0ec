"""Free pages, last in, first out."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    PageIds = array[int]
else:  # Python 3.11 has no array[int] at run time
    PageIds = array


def page_ids(pages: Sequence[int]) -> PageIds:
    """Return page numbers as 32-bit integers in one block of memory, which NumPy copies at once.

    >>> page_ids([7, 2])
    array('i', [7, 2])
    """
    return array("i", pages)


class FreeList(PageIds):
    """A stack of page numbers with its top at the end. Runs of pages are taken and given back at once.

    Args:
        order: the pages, in the order in which ``take`` returns them.

    >>> free = FreeList(range(4))
    >>> free.take(3), len(free)
    (array('i', [0, 1, 2]), 1)
    >>> free.give([1, 2])
    >>> free.take(3)
    array('i', [1, 2, 3])
    """

    def __new__(cls, order: Sequence[int]) -> FreeList:
        """Create the stack, the first page of ``order`` at its top."""
        return super().__new__(cls, "i", reversed(order))  # type: ignore[return-value]  # typed as its base class

    def take(self, count: int) -> PageIds:
        """Remove and return the next ``count`` pages. The caller has checked that there are so many."""
        pages = self[: -count - 1 : -1]
        del self[len(self) - count :]
        return pages

    def give(self, pages: Sequence[int]) -> None:
        """Add pages that are free again. ``take`` returns them first, in this order."""
        self.extend(pages[::-1])
