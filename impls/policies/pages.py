"""Paged memory: a pool of equal pages, taken one by one as sequences grow."""

from __future__ import annotations

import collections.abc
from collections.abc import Mapping

from impls.interface import Admission, CacheUsage, PageCopy, PoolExhausted
from impls.policies.ledger import Clock, Sequence, check_at_least, check_lengths
from impls.spec import ceil_div


class PagedSequence(Sequence):
    """A sequence and its pages, in token order."""

    __slots__ = ("pages",)

    def __init__(self, clock: Clock, num_tokens: int, final_len: int | None, pages: list[int]) -> None:
        super().__init__(clock, num_tokens, final_len)
        self.pages = pages


class PagePool:
    """A pool of pages with a last-in-first-out free list (PagedAttention paper, section 4).

    Args:
        num_pages: pages in the pool.
        page_size: tokens per page.
        token_bytes: bytes of one token's K and V over all layers.
        watermark: fraction of the pool that admission keeps free; appends may use it.
        host_pages: pages of the host's swap pool.
        free_order: the order in which a fresh pool hands out its pages, a permutation of
            ``range(num_pages)``; ascending if ``None``.

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
        free_order: collections.abc.Sequence[int] | None = None,
    ) -> None:
        check_at_least(1, num_pages=num_pages, page_size=page_size, token_bytes=token_bytes)
        check_at_least(0, host_pages=host_pages)
        if not 0 <= watermark < 1:
            raise ValueError(f"watermark={watermark} must be at least 0 and below 1")
        order = range(num_pages) if free_order is None else free_order
        if free_order is not None and sorted(free_order) != list(range(num_pages)):
            raise ValueError(f"free_order must be a permutation of range({num_pages})")
        self.num_pages = num_pages
        self.page_size = page_size
        self._token_bytes = token_bytes
        self._kept_pages = int(watermark * num_pages)
        self._free = list(reversed(order))
        self._sequences: dict[int, PagedSequence] = {}
        self._still = Clock()
        self._tokens = 0
        self._unused_slots = 0
        self._count = dict.fromkeys(("admissions", "appends", "frees"), 0)

    @property
    def pool_bytes(self) -> int:
        """Bytes of the whole pool, over all layers."""
        return self.num_pages * self.page_size * self._token_bytes

    @property
    def num_seqs(self) -> int:
        """Sequences that hold pages now."""
        return len(self._sequences)

    @property
    def free_pages(self) -> int:
        """Pages that nobody holds."""
        return len(self._free)

    @property
    def counters(self) -> Mapping[str, int]:
        """Exact event counts since construction, by name."""
        return dict(self._count)

    def can_admit(self, num_tokens: int, final_len: int | None = None) -> Admission:
        """NOW if the pages fit above the watermark, NEVER if not even into an empty pool."""
        check_lengths(num_tokens, final_len)
        needed = ceil_div(num_tokens, self.page_size) + self._kept_pages
        if needed > self.num_pages:
            return Admission.NEVER
        return Admission.NOW if needed <= len(self._free) else Admission.LATER

    def admit(self, seq_id: int, num_tokens: int, final_len: int | None = None) -> None:
        """Take pages for the first ``num_tokens`` tokens of a new sequence.

        Raises:
            ValueError: the sequence is there already, or a length is out of range.
            PoolExhausted: ``can_admit`` would not have answered NOW.
        """
        if seq_id in self._sequences:
            raise ValueError(f"seq_id={seq_id} holds pages already")
        if self.can_admit(num_tokens, final_len) is not Admission.NOW:
            raise PoolExhausted(f"sequence {seq_id} of {num_tokens} tokens does not fit")
        sequence = PagedSequence(self._still, num_tokens, final_len, self._take(ceil_div(num_tokens, self.page_size)))
        self._sequences[seq_id] = sequence
        self._tokens += num_tokens
        self._unused_slots += sequence.unused_of(len(sequence.pages) * self.page_size)
        self._count["admissions"] += 1

    def can_append(self, seq_id: int, num_tokens: int = 1) -> bool:
        """Whether ``append`` would succeed."""
        return self._missing_pages(self._sequence(seq_id), num_tokens) <= len(self._free)

    def append(self, seq_id: int, num_tokens: int = 1) -> list[PageCopy]:
        """Take slots for the sequence's next tokens; returns the page copies to make first.

        Raises:
            KeyError: no such sequence.
            ValueError: ``num_tokens`` is not positive.
            PoolExhausted: too few free pages; the caller must free or preempt.
        """
        sequence = self._sequence(seq_id)
        missing = self._missing_pages(sequence, num_tokens)
        if missing > len(self._free):
            raise PoolExhausted(f"sequence {seq_id} needs {missing} pages, {len(self._free)} are free")
        self._unused_slots -= sequence.unused_of(len(sequence.pages) * self.page_size)
        sequence.pages += self._take(missing)
        sequence.offset += num_tokens
        self._tokens += num_tokens
        self._unused_slots += sequence.unused_of(len(sequence.pages) * self.page_size)
        self._count["appends"] += num_tokens
        return []

    def free(self, seq_id: int) -> None:
        """Give back all pages of a sequence; the first of them is the next to be handed out.

        Raises:
            KeyError: no such sequence (freed twice, say).
        """
        sequence = self._sequence(seq_id)
        del self._sequences[seq_id]
        self._tokens -= sequence.num_tokens
        self._unused_slots -= sequence.unused_of(len(sequence.pages) * self.page_size)
        self._free.extend(reversed(sequence.pages))
        self._count["frees"] += 1

    def seq_len(self, seq_id: int) -> int:
        """Tokens of the sequence that have a slot."""
        return self._sequence(seq_id).num_tokens

    def page_ids(self, seq_id: int) -> list[int]:
        """Pages of a sequence, in token order."""
        return list(self._sequence(seq_id).pages)

    def slots(self, seq_id: int, start: int, stop: int) -> list[int]:
        """Cache slots of tokens ``start .. stop - 1`` of one sequence.

        Raises:
            KeyError: no such sequence.
            IndexError: the range reaches past the sequence's last token.
        """
        sequence = self._sequence(seq_id)
        if not 0 <= start <= stop <= sequence.num_tokens:
            raise IndexError(f"tokens {start}..{stop} of sequence {seq_id}, which has {sequence.num_tokens}")
        size, pages = self.page_size, sequence.pages
        return [pages[token // size] * size + token % size for token in range(start, stop)]

    def usage(self, head_tokens: int | None = None, head_final_len: int | None = None) -> CacheUsage:
        """The split of the pool now; pages leave no external fragmentation, whatever the head is."""
        held = (self.num_pages - len(self._free)) * self.page_size
        return CacheUsage(
            live_bytes=self._tokens * self._token_bytes,
            reserved_bytes=(held - self._tokens - self._unused_slots) * self._token_bytes,
            internal_fragmentation_bytes=self._unused_slots * self._token_bytes,
            external_fragmentation_bytes=0,
            cached_bytes=0,
            free_bytes=len(self._free) * self.page_size * self._token_bytes,
        )

    def _sequence(self, seq_id: int) -> PagedSequence:
        try:
            return self._sequences[seq_id]
        except KeyError:
            raise KeyError(f"sequence {seq_id} holds no pages: never admitted, or freed already") from None

    def _missing_pages(self, sequence: PagedSequence, num_tokens: int) -> int:
        check_at_least(1, num_tokens=num_tokens)
        return ceil_div(sequence.num_tokens + num_tokens, self.page_size) - len(sequence.pages)

    def _take(self, count: int) -> list[int]:
        pages = self._free[-count:] if count else []
        del self._free[len(self._free) - count :]
        pages.reverse()
        return pages
