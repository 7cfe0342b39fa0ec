"""The mechanics of paged memory: pages that are taken, shared, copied and released."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from impls.interface import Admission, PageCopy, PoolExhausted
from impls.policies.freelist import FreeList, PageIds
from impls.policies.ledger import Ledger, SequenceState, SlotSplit, check_at_least, check_range
from impls.policies.references import References
from impls.spec import ceil_div

PAGE_COUNTERS: Final = (
    "admissions",
    "appends",  # tokens
    "frees",
    "preemptions",
    "forks",
    "pages_taken_admit",
    "pages_taken_append",  # including copy-on-write
    "pages_freed",  # pages that lost their last owner
    "pages_copied",
    "pages_evicted",
    "pages_swapped_out",
    "pages_swapped_in",
)


@dataclass(slots=True, eq=False)
class PagedState(SequenceState):
    """A sequence and its pages, in token order."""

    pages: PageIds


class PageLedger(Ledger[PagedState]):
    """Sequences over a pool of pages. ``PagePool`` adds the operations and documents the arguments.

    ``_extend`` is for ``Lockstep`` in this package. ``_adopt``, the methods of last pages (``_share_tails``,
    ``_copy_tails``, ``_own_tails``) and ``_count_crossed`` are for ``Family``.
    """

    def __init__(
        self, num_pages: int, page_size: int, token_bytes: int, *, watermark: float, free_order: Sequence[int] | None
    ) -> None:
        check_at_least(1, num_pages=num_pages, page_size=page_size, token_bytes=token_bytes)
        if not 0 <= watermark < 1:
            raise ValueError(f"watermark={watermark} must be at least 0 and below 1")
        if free_order is not None and sorted(free_order) != list(range(num_pages)):
            raise ValueError(f"free_order must hold each of 0 .. {num_pages - 1} once")
        super().__init__(num_pages * page_size, token_bytes, PAGE_COUNTERS)
        self.num_pages = num_pages
        self.page_size = page_size
        self._kept_pages = int(watermark * num_pages)
        self._free = FreeList(range(num_pages) if free_order is None else free_order)
        self._available = num_pages
        self._min_available = num_pages
        self._references = References()
        self._tail_owners: dict[int, list[PagedState]] = {}  # by page: owners of a shared, partly filled last page

    @property
    def free_pages(self) -> int:
        """Pages that are not held and keep no tokens for reuse."""
        return len(self._free)

    @property
    def available_pages(self) -> int:
        """Pages that can be taken now."""
        return self._available

    @property
    def kept_pages(self) -> int:
        """Pages that admission and swap-in keep free (the watermark)."""
        return self._kept_pages

    @property
    def copied_pages(self) -> int:
        """Pages copied since construction because a sequence wrote to a shared page."""
        return self._count["pages_copied"]

    @property
    def saved_pages(self) -> int:
        """Pages that sharing saves: the sequences would hold so many more pages without it."""
        return self._references.extra

    @property
    def counters(self) -> Mapping[str, int]:
        """Exact event counts since construction, by name. ``peak_pages`` is the most pages held at once."""
        return {**self._count, "peak_pages": self.num_pages - self._min_available}

    def page_ids(self, seq_id: int) -> PageIds:
        """Return a copy of the pages of a sequence, in token order, as 32-bit integers.

        Raises:
            KeyError: the sequence holds no memory.
        """
        return self._state(seq_id).pages[:]

    def slots(self, seq_id: int, start: int, stop: int) -> list[int]:
        """Return the cache slots of tokens ``start .. stop - 1`` of one sequence.

        Raises:
            KeyError: the sequence holds no memory.
            IndexError: the range extends past the last token of the sequence.
        """
        state = self._state(seq_id)
        check_range(state, start, stop)
        size, pages = self.page_size, state.pages
        return [pages[token // size] * size + token % size for token in range(start, stop)]

    def split(self, head_tokens: int | None = None, head_final_len: int | None = None) -> SlotSplit:
        """Return the parts of the pool now, in slots. Pages leave no external fragmentation for any head."""
        size = self.page_size
        available, free = self._available, len(self._free)
        live = self._tokens - self._saved
        reserved = (self.num_pages - available) * size - live - self._unused
        parts = (live, reserved, self._unused, 0, (available - free) * size, free * size)
        # Equal to SlotSplit(*parts), which takes four times as long at every step of a replay.
        return tuple.__new__(SlotSplit, parts)

    def pages_for_next(self, seq_ids: Iterable[int]) -> int:
        """Return the pages that one more token of each of these sequences takes, including copies of last pages.

        Raises:
            KeyError: a sequence holds no memory.
        """
        pages = 0
        appending: Counter[int] = Counter()  # by shared last page
        for seq_id in seq_ids:
            state = self._state(seq_id)
            pages += state.num_tokens % self.page_size == 0
            if state.pages[-1] in self._tail_owners:
                appending[state.pages[-1]] += 1
        # The last owner of a page writes in place.
        return pages + sum(min(count, len(self._tail_owners[page]) - 1) for page, count in appending.items())

    def _extend(self, tables: Collection[PageIds]) -> None:
        """Add one page to each page table. The caller has checked that so many are available, and calls ``_tick``."""
        for table, page in zip(tables, self._take(len(tables)), strict=True):
            table.append(page)
        self._count["pages_taken_append"] += len(tables)

    def _adopt(self, table: PageIds, other: PageIds, stop: int) -> None:
        """Replace the full pages of a table before index ``stop`` by those of another table.

        Beams that share a page share all pages before it, so two tables are equal up to some index and differ after.
        """
        start = stop - 1
        while start and table[start - 1] != other[start - 1]:
            start -= 1
        ownerless = self._references.drop(table[start:stop])
        self._references.add(other[start:stop])
        table[start:stop] = other[start:stop]
        self._saved += len(ownerless) * self.page_size
        self._release(ownerless)
        self._count["pages_freed"] += len(ownerless)

    def _share_tails(self, given_up: Sequence[int], tokens: int, unused: int) -> None:
        """Account for sequences that give up their last pages and share those of other sequences.

        Args:
            given_up: the pages that they give up. Each had one owner.
            tokens: tokens in each page.
            unused: slots of each page that would never have been filled.
        """
        count = len(given_up)
        self._saved += count * tokens
        self._unused -= count * unused
        self._references.extra += count
        self._release(given_up)
        self._count["pages_freed"] += count

    def _copy_tails(self, tables: list[PageIds], tokens: int, unused: int) -> None:
        """Undo ``_share_tails`` for sequences that are about to write. Each gets a copy of its last page."""
        count = len(tables)
        for table, page in zip(tables, self._take(count), strict=True):
            table[-1] = page
        self._saved -= count * tokens
        self._unused += count * unused
        self._references.extra -= count
        self._count["pages_copied"] += count
        self._count["pages_taken_append"] += count

    def _own_tails(self, pairs: Collection[tuple[PagedState, PagedState]]) -> None:
        """Record the owners of last pages that ``_share_tails`` has only summed, as pairs (child, parent)."""
        self._references.extra -= len(pairs)  # add counts them again
        self._references.add(child.pages[-1] for child, _ in pairs)
        for child, parent in pairs:
            self._tail_owners.setdefault(child.pages[-1], [parent]).append(child)

    def _count_crossed(self, sequences: int) -> None:
        """Count sequences that became copies of other sequences. Each counts as freed and forked."""
        self._count["forks"] += sequences
        self._count["frees"] += sequences

    def _check_joins(self, seq_id: int, state: PagedState) -> None:
        super()._check_joins(seq_id, state)
        if state.pages[-1] in self._tail_owners:
            raise ValueError(f"seq_id={seq_id} shares its last page and must append one token by itself first")

    def _may_take(self, count: int) -> Admission:
        """Return whether an admission or a swap-in, which respect the watermark, may take ``count`` pages."""
        count += self._kept_pages
        if count > self.num_pages:
            return Admission.NEVER
        return Admission.NOW if count <= self._available else Admission.LATER

    def _refusal(self, seq_id: int, count: int) -> PoolExhausted:
        return PoolExhausted(
            f"sequence {seq_id} needs {count} pages: of {self.num_pages}, {self._available} are available "
            f"and {self._kept_pages} are kept free"
        )

    def _take(self, count: int) -> PageIds:
        available = self._available = self._available - count
        if available < self._min_available:
            self._min_available = available
        return self._free.take(count)

    def _release(self, pages: Sequence[int]) -> None:
        """Make pages available that have no owner left."""
        self._available += len(pages)
        self._free.give(pages)

    def _add(self, seq_id: int, state: PagedState) -> None:
        """Add a sequence that owns its last page alone."""
        self._states[seq_id] = state
        self._tokens += state.offset
        self._unused += state.unused_of(len(state.pages) * self.page_size)

    def _remove(self, seq_id: int) -> PagedState:
        """Remove a sequence, release the pages that it alone owns, and return its state."""
        state = self._changeable_state(seq_id)
        del self._states[seq_id]
        self._tokens -= state.offset
        self._disown_tail(state)
        pages = state.pages
        ownerless = self._references.drop(pages)
        if len(ownerless) < len(pages):
            self._saved -= self._tokens_left(state, ownerless)
        self._release(ownerless)
        self._count["pages_freed"] += len(ownerless)
        return state

    def _tokens_left(self, state: PagedState, ownerless: Sequence[int]) -> int:
        """Return the tokens of a removed sequence in pages that other sequences still own."""
        tokens = (len(state.pages) - len(ownerless)) * self.page_size
        tail_is_left = not ownerless or ownerless[-1] != state.pages[-1]
        return tokens - (len(state.pages) * self.page_size - state.num_tokens if tail_is_left else 0)

    def _unused_by(self, state: PagedState) -> int:
        """Return the slots of a sequence's last page that none of its owners will ever fill.

        Owners of a partly filled page are of equal length, because an owner that appends gets a copy.
        """
        held = len(state.pages) * self.page_size
        owners = self._tail_owners.get(state.pages[-1])
        return min(owner.unused_of(held) for owner in owners) if owners else state.unused_of(held)

    def _disown_tail(self, state: PagedState) -> None:
        """Remove a sequence from the owners of its last page, and keep the sums exact."""
        tail = state.pages[-1]
        if tail not in self._tail_owners:
            self._unused -= state.unused_of(len(state.pages) * self.page_size)
            return
        owners = self._tail_owners[tail]
        owners.remove(state)
        if owners[0].final_len < state.final_len:  # else the page will be filled as far as before
            left = self._unused_by(owners[0])
            self._unused += left - min(left, state.unused_of(len(state.pages) * self.page_size))
        if len(owners) == 1:
            del self._tail_owners[tail]

    def _fills_own_page(self, state: PagedState, num_tokens: int) -> bool:
        """Return whether the next tokens only fill reserved slots of an unshared last page, the common case."""
        length = state.offset + num_tokens
        return (
            num_tokens > 0
            and length <= state.final_len
            and length <= len(state.pages) * self.page_size
            and state.pages[-1] not in self._tail_owners
        )

    def _pages_to_append(self, state: PagedState, num_tokens: int) -> int:
        """Return the pages that the next tokens take, including the copy of a shared last page."""
        if num_tokens < 1:
            raise ValueError(f"num_tokens={num_tokens} must be at least 1")
        missing = ceil_div(state.num_tokens + num_tokens, self.page_size) - len(state.pages)
        return missing + (state.pages[-1] in self._tail_owners)

    def _copy_tail(self, state: PagedState) -> PageCopy:
        """Replace a shared, partly filled last page by a copy that the sequence owns alone."""
        self._disown_tail(state)
        source, target = state.pages[-1], self._take(1)[0]
        self._references.drop([source])
        state.pages[-1] = target
        self._saved -= state.num_tokens % self.page_size
        self._unused += state.unused_of(len(state.pages) * self.page_size)
        self._count["pages_copied"] += 1
        return PageCopy(source, target)
