"""Paged memory that keeps the full pages of prompts, for later prompts that begin alike."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from itertools import takewhile

from impls.interface import Admission, PolicyKind
from impls.policies.ledger import check_lengths
from impls.policies.page_ledger import PagedState
from impls.policies.pages import PagePool
from impls.policies.prefix_keys import PageKey
from impls.spec import ceil_div


class PrefixPool(PagePool):
    """A page pool in which full pages are found again by the key of their prefix.

    ``admit`` shares the longest run of leading pages whose keys are known and names the rest of the
    prompt's full pages for others. A named page that nobody owns stays cached until its memory is
    needed; the least recently used goes first, of one sequence the first page first, so that a
    replay of single requests is a plain LRU cache of pages. All is O(1) per page.

    Args:
        num_pages: pages in the pool.
        page_size: tokens per page.
        token_bytes: bytes of one token's K and V over all layers.
        watermark: see ``PagePool``.
        host_pages: see ``PagePool``; a sequence that comes back from the host has unnamed pages.
        free_order: see ``PagePool``.

    Raises:
        ValueError: an argument is out of range; names it.
    """

    def __init__(
        self,
        num_pages: int,
        page_size: int,
        token_bytes: int,
        *,
        watermark: float = 0.0,
        host_pages: int = 0,
        free_order: Sequence[int] | None = None,
    ) -> None:
        super().__init__(
            num_pages, page_size, token_bytes, watermark=watermark, host_pages=host_pages, free_order=free_order
        )
        self._page_of: dict[PageKey, int] = {}
        self._key_of: dict[int, PageKey] = {}
        self._cached: OrderedDict[int, None] = OrderedDict()  # named pages that nobody owns, oldest use first
        self._count |= dict.fromkeys(("pages_named", "pages_hit", "pages_revived"), 0)

    @property
    def kind(self) -> PolicyKind:
        """Pages, and those of known prefixes are found again."""
        return PolicyKind.PREFIX

    @property
    def cached_pages(self) -> int:
        """Pages that nobody owns and that a later prompt could reuse."""
        return len(self._cached)

    def match(self, keys: Sequence[PageKey]) -> list[int]:
        """Pages that a prompt with these keys would share: the longest known run from its first page."""
        known = takewhile(lambda page: page is not None, map(self._page_of.get, keys))
        return list(known)  # type: ignore[arg-type]  # takewhile has left no None

    def can_admit(self, num_tokens: int, final_len: int | None = None, *, keys: Sequence[PageKey] = ()) -> Admission:
        """NOW if the pages that cannot be shared fit above the watermark.

        Args:
            num_tokens: tokens of the prompt.
            final_len: for accounting only.
            keys: of the prompt's full pages, from the first on; see ``prefix_keys``.

        Raises:
            ValueError: a length is out of range, or there are more keys than full pages.
        """
        check_lengths(num_tokens, final_len)
        self._check_keys(keys, num_tokens)
        return self._may_share(ceil_div(num_tokens, self.page_size), self.match(keys))

    def admit(
        self, seq_id: int, num_tokens: int, final_len: int | None = None, *, keys: Sequence[PageKey] = ()
    ) -> None:
        """Share the pages of a known prefix and take pages for the other tokens of a new sequence.

        Raises:
            ValueError: the sequence is there already, a length is out of range, or there are more
                keys than full pages.
            PoolExhausted: ``can_admit`` would not have answered NOW.
        """
        self._check_new(seq_id)
        check_lengths(num_tokens, final_len)
        self._check_keys(keys, num_tokens)
        shared = self.match(keys)
        count = ceil_div(num_tokens, self.page_size)
        if self._may_share(count, shared) is not Admission.NOW:
            raise self._refusal(seq_id, count - len(shared))
        self._share(shared)
        pages = shared + self._take(count - len(shared))
        self._enter(seq_id, PagedState(self._still, num_tokens, final_len or 0, pages))
        self._name(pages[len(shared) : len(keys)], keys[len(shared) :])
        self._count["admissions"] += 1
        self._count["pages_taken_admit"] += count - len(shared)
        self._count["pages_hit"] += len(shared)

    def pages_to_admit(self, num_tokens: int, keys: Sequence[PageKey] = ()) -> int:
        """Of the available pages, those that a prompt would take: new ones, and cached ones that it would share."""
        shared = self.match(keys)
        return ceil_div(num_tokens, self.page_size) - sum(page not in self._cached for page in shared)

    def _check_keys(self, keys: Sequence[PageKey], num_tokens: int) -> None:
        full_pages = num_tokens // self.page_size
        if len(keys) > full_pages:
            raise ValueError(f"keys has {len(keys)} page keys; num_tokens={num_tokens} fill only {full_pages} pages")

    def _may_share(self, count: int, shared: list[int]) -> Admission:
        """Whether ``count`` pages, these shared ones among them, may be held by a new sequence."""
        revived = sum(page in self._cached for page in shared)
        if count - len(shared) + revived + self._kept_pages <= self._available:
            return Admission.NOW
        return Admission.NEVER if count + self._kept_pages > self.num_pages else Admission.LATER

    def _share(self, pages: list[int]) -> None:
        """Give known pages one owner more; one that is cached is no longer available."""
        revived = [page for page in pages if page in self._cached]
        owned = [page for page in pages if page not in self._cached]
        for page in revived:
            del self._cached[page]
        self._available -= len(revived)
        self._references.add(owned)
        self._saved += len(owned) * self.page_size
        self._count["pages_revived"] += len(revived)

    def _name(self, pages: list[int], keys: Sequence[PageKey]) -> None:
        for page, key in zip(pages, keys, strict=True):
            self._forget(key)  # known, but what stands before it was not: the new page takes its place
            self._page_of[key] = page
            self._key_of[page] = key
        self._count["pages_named"] += len(pages)

    def _forget(self, key: PageKey) -> None:
        """Take the name from a page, if one has it; unless owned, that page is free then."""
        page = self._page_of.pop(key, None)
        if page is None:
            return
        del self._key_of[page]
        if page in self._cached:
            del self._cached[page]
            self._free.give([page])

    def _take(self, count: int) -> list[int]:
        for _ in range(count - len(self._free)):
            oldest = next(iter(self._cached))
            self._forget(self._key_of[oldest])
            self._count["pages_evicted"] += 1
        return super()._take(count)

    def _release(self, pages: list[int]) -> None:
        self._cached.update(dict.fromkeys(page for page in pages if page in self._key_of))
        self._free.give([page for page in pages if page not in self._key_of])
        self._available += len(pages)
