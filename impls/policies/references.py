"""Reference counts of pages that have more than one owner."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


class References:
    """Reference counts of the shared pages. A held page without a count has one owner.

    Most pages are never shared, so a pool without sharing has no cost of counting.

    Attributes:
        counts: number of owners of each page that has at least two.
        extra: owners beyond the first, summed over all pages. This is what sharing saves, in pages.
    """

    __slots__ = ("counts", "extra")

    def __init__(self) -> None:
        self.counts: dict[int, int] = {}
        self.extra = 0

    def add(self, pages: Iterable[int]) -> None:
        """Add one owner to every page. All of them are held already."""
        counts = self.counts
        for page in pages:
            counts[page] = counts.get(page, 1) + 1
            self.extra += 1

    def drop(self, pages: Sequence[int]) -> Sequence[int]:
        """Remove one owner from every page.

        Returns:
            The pages that have no owner left, in order. This is ``pages`` itself while no page is shared.
        """
        counts = self.counts
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
