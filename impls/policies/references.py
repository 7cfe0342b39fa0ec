"""Which pages have more than one owner."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType


class References:
    """Reference counts of the shared pages; a held page that is not here has one owner.

    Most pages are never shared, so a pool without sharing pays nothing for counting.
    """

    __slots__ = ("_counts", "extra")

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        self.extra = 0  # owners beyond the first, summed over all pages: what sharing saves, in pages

    def __bool__(self) -> bool:
        return bool(self._counts)

    @property
    def counts(self) -> Mapping[int, int]:
        """Owners of each page that has at least two."""
        return MappingProxyType(self._counts)

    def add(self, pages: Iterable[int]) -> None:
        """Give every page, held already, one owner more."""
        counts = self._counts
        for page in pages:
            counts[page] = counts.get(page, 1) + 1
            self.extra += 1

    def drop(self, pages: Sequence[int]) -> Sequence[int]:
        """Take one owner from every page.

        Returns:
            The pages that have no owner left, in order; ``pages`` itself while nothing is shared.
        """
        counts = self._counts
        if not counts:
            return pages
        ownerless = []
        for page in pages:
            owners = counts.get(page)
            if owners is None:
                ownerless.append(page)
            elif owners == 2:
                del counts[page]
                self.extra -= 1
            else:
                counts[page] = owners - 1
                self.extra -= 1
        return ownerless
