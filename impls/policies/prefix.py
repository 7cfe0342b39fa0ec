"""Paged memory that keeps the full pages of prompts for later prompts with the same prefix."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from itertools import islice

from impls.interface import Admission, PolicyKind
from impls.policies.freelist import PageIds, page_ids
from impls.policies.ledger import check_lengths
from impls.policies.page_ledger import PagedState
from impls.policies.pages import PagePool
from impls.policies.prefix_keys import PageKey
from impls.spec import ceil_div


class PrefixPool(PagePool):
    """A page pool that finds full pages again by the key of their prefix.

    ``admit`` shares the longest run of leading pages whose keys are known. It stores the keys of the other full
    pages of the prompt, so that later prompts can share them. A page with a key and no owner stays cached until its
    memory is needed. The least recently used page is evicted first, and of one sequence the last page first, as in
    vLLM: a page is never found if one before it is gone. Every operation is O(1) per page.

    Args:
        num_pages: pages in the pool.
        page_size: tokens per page.
        token_bytes: bytes of one token's K and V over all layers.
        watermark: see ``PagePool``.
        host_pages: see ``PagePool``. The pages of a sequence that comes back from the host have no keys.
        free_order: see ``PagePool``.

    Raises:
        ValueError: an argument is out of range. The message names it.
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
        self._cached: OrderedDict[int, None] = OrderedDict()  # pages with a key and no owner, least recently used first
        self._count |= dict.fromkeys(("pages_named", "pages_hit", "pages_revived"), 0)

    @property
    def kind(self) -> PolicyKind:
        """``PREFIX``: pages, and those of known prefixes are found again."""
        return PolicyKind.PREFIX

    def match(self, keys: Sequence[PageKey]) -> list[int]:
        """Return the pages that a prompt with these keys would share: the longest known run from its first page.

        A key that repeats within the prompt ends the run, because a sequence holds a page once.
        """
        page_of = self._page_of
        known: dict[int, None] = {}
        for key in keys:
            page = page_of.get(key)
            if page is None or page in known:
                break
            known[page] = None
        return list(known)

    def can_admit(self, num_tokens: int, final_len: int | None = None, *, keys: Sequence[PageKey] = ()) -> Admission:
        """Return NOW if the pages that cannot be shared fit above the watermark.

        Args:
            num_tokens: tokens of the prompt.
            final_len: for accounting only.
            keys: keys of the full pages of the prompt, from the first page on (see ``prefix_keys``).

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
            ValueError: the sequence already holds memory, a length is out of range, or there are more
                keys than full pages.
            PoolExhausted: ``can_admit`` does not return NOW.
        """
        self._check_new(seq_id)
        check_lengths(num_tokens, final_len)
        self._check_keys(keys, num_tokens)
        shared = self.match(keys)
        count = ceil_div(num_tokens, self.page_size)
        if self._may_share(count, shared) is not Admission.NOW:
            raise self._refusal(seq_id, count - len(shared))
        self._share(shared)
        pages = page_ids(shared) + self._take(count - len(shared))
        self._add(seq_id, PagedState(self._stopped_clock, num_tokens, final_len or 0, pages))
        self._name(pages[len(shared) : len(keys)], keys[len(shared) :])
        self._count["admissions"] += 1
        self._count["pages_taken_admit"] += count - len(shared)
        self._count["pages_hit"] += len(shared)

    def pages_to_admit(self, num_tokens: int, keys: Sequence[PageKey] = ()) -> int:
        """Return how many available pages a prompt would take: new pages, and cached pages that it would share."""
        shared = self.match(keys)
        return ceil_div(num_tokens, self.page_size) - sum(page not in self._cached for page in shared)

    def _check_keys(self, keys: Sequence[PageKey], num_tokens: int) -> None:
        full_pages = num_tokens // self.page_size
        if len(keys) > full_pages:
            raise ValueError(
                f"keys has {len(keys)} page keys, but num_tokens={num_tokens} fill only {full_pages} pages"
            )

    def _may_share(self, count: int, shared: list[int]) -> Admission:
        """Return whether a new sequence may hold ``count`` pages, of which ``shared`` are shared."""
        revived = sum(page in self._cached for page in shared)
        if count - len(shared) + revived + self._kept_pages <= self._available:
            return Admission.NOW
        return Admission.NEVER if count + self._kept_pages > self.num_pages else Admission.LATER

    def _share(self, pages: list[int]) -> None:
        """Add one owner to pages with a key. A page that was cached is no longer available."""
        revived = [page for page in pages if page in self._cached]
        owned = [page for page in pages if page not in self._cached]
        for page in revived:
            del self._cached[page]
        self._available -= len(revived)
        self._references.add(owned)
        self._saved += len(owned) * self.page_size
        self._count["pages_revived"] += len(revived)

    def _name(self, pages: Sequence[int], keys: Sequence[PageKey]) -> None:
        for page, key in zip(pages, keys, strict=True):
            self._forget(key)  # the key is known but an earlier key was not, so the new page replaces the old one
            self._page_of[key] = page
            self._key_of[page] = key
        self._count["pages_named"] += len(pages)

    def _forget(self, key: PageKey) -> None:
        """Remove a key from the page that has it, if any. If the page has no owner, it becomes free."""
        page = self._page_of.pop(key, None)
        if page is None:
            return
        del self._key_of[page]
        if page in self._cached:
            del self._cached[page]
            self._free.give([page])

    def _take(self, count: int) -> PageIds:
        missing = count - len(self._free)
        if missing > 0:
            self._evict(missing)
        return super()._take(count)

    def _evict(self, count: int) -> None:
        """Remove the keys of the least recently used cached pages, which makes these pages free."""
        oldest = list(islice(self._cached, count))
        for page in oldest:
            del self._cached[page]
            del self._page_of[self._key_of.pop(page)]
        self._free.extend(oldest)
        self._count["pages_evicted"] += count

    def _release(self, pages: Sequence[int]) -> None:
        key_of = self._key_of
        named = [page for page in pages if page in key_of]
        self._cached.update(dict.fromkeys(reversed(named)))
        if len(named) < len(pages):
            self._free.give([page for page in pages if page not in key_of])
        self._available += len(pages)
