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
    "pages_taken_append",  # those of copy-on-write included
    "pages_freed",  # that lost their last owner
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
    """Sequences over a pool of pages; ``PagePool`` adds what can happen to them and documents the arguments."""

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
        self._fewest_available = num_pages
        self._references = References()
        self._tail_owners: dict[int, list[PagedState]] = {}  # of each shared page that is partly filled

    @property
    def free_pages(self) -> int:
        """Pages that nobody holds and that keep nothing for reuse."""
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
        """Pages that were copied since construction because a shared one was written to."""
        return self._count["pages_copied"]

    @property
    def saved_pages(self) -> int:
        """Pages that sharing saves: those that the sequences would hold more, if none were shared."""
        return self._references.extra

    @property
    def shared_pages(self) -> Mapping[int, int]:
        """Number of owners of each page that has more than one."""
        return self._references.counts

    @property
    def counters(self) -> Mapping[str, int]:
        """Exact event counts since construction, by name; ``peak_pages`` is the most held at once."""
        return {**self._count, "peak_pages": self.num_pages - self._fewest_available}

    def page_ids(self, seq_id: int) -> PageIds:
        """Pages of a sequence, in token order.

        Raises:
            KeyError: no such sequence.
        """
        return self._state(seq_id).pages[:]

    def slots(self, seq_id: int, start: int, stop: int) -> list[int]:
        """Cache slots of tokens ``start .. stop - 1`` of one sequence.

        Raises:
            KeyError: no such sequence.
            IndexError: the range reaches past the sequence's last token.
        """
        state = self._state(seq_id)
        check_range(state, start, stop)
        size, pages = self.page_size, state.pages
        return [pages[token // size] * size + token % size for token in range(start, stop)]

    def split(self, head_tokens: int | None = None, head_final_len: int | None = None) -> SlotSplit:
        """The parts of the pool now, in slots; pages leave no external fragmentation, whatever the head."""
        size = self.page_size
        available, free = self._available, len(self._free)
        live = self._tokens - self._saved
        reserved = (self.num_pages - available) * size - live - self._unused
        parts = (live, reserved, self._unused, 0, (available - free) * size, free * size)
        return tuple.__new__(
            SlotSplit, parts
        )  # as SlotSplit(*parts), which costs four times as much at every step of a replay

    def pages_for_next(self, seq_ids: Iterable[int]) -> int:
        """Pages that one more token of each of these sequences takes, copies of shared last pages included.

        Raises:
            KeyError: no such sequence.
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

    def extend(self, tables: Collection[PageIds]) -> None:
        """Lengthen page tables by one page each; for ``Lockstep``, which sees to the rest by ``tick``.

        There must be as many pages available.
        """
        for table, page in zip(tables, self._take(len(tables)), strict=True):
            table.append(page)
        self._count["pages_taken_append"] += len(tables)

    def adopt(self, table: PageIds, other: PageIds, stop: int) -> None:
        """Let a page table share another's full pages before place ``stop``; for ``Family``.

        Beams that share a page share all before it, so that they differ from some place on.
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

    def share_tails(self, given_up: Sequence[int], tokens: int, unused: int) -> None:
        """Account for sequences that give up their last pages and share others' instead; for ``Family``.

        Args:
            given_up: their pages, which nobody else owned.
            tokens: in each of them.
            unused: slots of each that would never have been filled.
        """
        count = len(given_up)
        self._saved += count * tokens
        self._unused -= count * unused
        self._references.extra += count
        self._release(given_up)
        self._count["pages_freed"] += count

    def copy_tails(self, tables: list[PageIds], tokens: int, unused: int) -> None:
        """Undo ``share_tails`` for sequences that are about to write: each gets a copy of its last page."""
        count = len(tables)
        for table, page in zip(tables, self._take(count), strict=True):
            table[-1] = page
        self._saved -= count * tokens
        self._unused += count * unused
        self._references.extra -= count
        self._count["pages_copied"] += count
        self._count["pages_taken_append"] += count

    def own_tails(self, pairs: Collection[tuple[PagedState, PagedState]]) -> None:
        """Note, one by one, the owners of last pages that ``share_tails`` accounted for: (heir, owner) each."""
        self._references.extra -= len(pairs)  # which ``add`` counts
        self._references.add(heir.pages[-1] for heir, _ in pairs)
        for heir, owner in pairs:
            self._tail_owners.setdefault(heir.pages[-1], [owner]).append(heir)

    def count_crossed(self, sequences: int) -> None:
        """Count sequences that became copies of others: each was freed and forked; for ``Family``."""
        self._count["forks"] += sequences
        self._count["frees"] += sequences

    def _check_joins(self, seq_id: int, state: PagedState) -> None:
        super()._check_joins(seq_id, state)
        if state.pages[-1] in self._tail_owners:
            raise ValueError(f"seq_id={seq_id} shares its last page and must append one token by itself first")

    def _may_take(self, count: int) -> Admission:
        """Whether ``count`` pages may be taken by somebody who must respect the watermark."""
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
        if available < self._fewest_available:
            self._fewest_available = available
        return self._free.take(count)

    def _release(self, pages: Sequence[int]) -> None:
        """Make pages available that nobody owns any more."""
        self._available += len(pages)
        self._free.give(pages)

    def _enter(self, seq_id: int, state: PagedState) -> None:
        """Account for a sequence that owns its last page alone."""
        self._states[seq_id] = state
        self._tokens += state.offset
        self._unused += state.unused_of(len(state.pages) * self.page_size)

    def _exit(self, seq_id: int) -> PagedState:
        """Take a sequence out, release the pages that nobody shares, and return what it was."""
        state = self._own(seq_id)
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
        """Tokens of a leaving sequence in pages that others still own."""
        tokens = (len(state.pages) - len(ownerless)) * self.page_size
        tail_is_left = not ownerless or ownerless[-1] != state.pages[-1]
        return tokens - (len(state.pages) * self.page_size - state.num_tokens if tail_is_left else 0)

    def _unused_by(self, state: PagedState) -> int:
        """Slots of a sequence's last page that none of its owners will ever fill.

        Owners of a partly filled page are of equal length: whoever appends has a copy.
        """
        held = len(state.pages) * self.page_size
        owners = self._tail_owners.get(state.pages[-1])
        return min(owner.unused_of(held) for owner in owners) if owners else state.unused_of(held)

    def _disown_tail(self, state: PagedState) -> None:
        """Leave the last page, and what it counts for, to its other owners."""
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
        """Whether the next tokens only fill reserved slots of a last page that nobody shares: the common case."""
        length = state.offset + num_tokens
        return (
            num_tokens > 0
            and length <= state.final_len
            and length <= len(state.pages) * self.page_size
            and state.pages[-1] not in self._tail_owners
        )

    def _pages_to_append(self, state: PagedState, num_tokens: int) -> int:
        """Pages that the next tokens take, the copy of a shared last page included."""
        if num_tokens < 1:
            raise ValueError(f"num_tokens={num_tokens} must be at least 1")
        missing = ceil_div(state.num_tokens + num_tokens, self.page_size) - len(state.pages)
        return missing + (state.pages[-1] in self._tail_owners)

    def _copy_tail(self, state: PagedState) -> PageCopy:
        """Replace the last page, shared and partly filled, by a copy that the sequence owns alone."""
        self._disown_tail(state)
        source, target = state.pages[-1], self._take(1)[0]
        self._references.drop([source])
        state.pages[-1] = target
        self._saved -= state.num_tokens % self.page_size
        self._unused += state.unused_of(len(state.pages) * self.page_size)
        self._count["pages_copied"] += 1
        return PageCopy(source, target)
