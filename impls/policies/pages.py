"""Paged memory: a pool of equal pages that sequences take one by one as they grow."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from impls.interface import Admission, PageCopy, PolicyKind, PoolExhausted
from impls.policies.freelist import FreeList, page_ids
from impls.policies.ledger import check_at_least, check_lengths
from impls.policies.page_ledger import PagedState, PageLedger
from impls.policies.references import References
from impls.spec import ceil_div


class PagePool(PageLedger):
    """A pool of pages with reference counts (PagedAttention paper, sections 4.2 to 4.5).

    A sequence holds exactly the pages that its tokens require. ``fork`` shares all pages of a sequence. A shared page
    is never written to: a sequence that appends to a partly filled shared page gets a copy of it first. The last owner
    of a page writes in place.

    Args:
        num_pages: pages in the pool.
        page_size: tokens per page.
        token_bytes: bytes of one token's K and V over all layers.
        watermark: fraction of the pool that admission and swap-in keep free. Appends may use it.
        host_pages: pages of the swap pool on the host.
        free_order: the order in which a new pool assigns its pages, a permutation of ``range(num_pages)``.
            Ascending if ``None``. After that, the page freed last is taken first.

    Attributes:
        host_pages: pages of the swap pool on the host.

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
        check_at_least(0, host_pages=host_pages)
        self.host_pages = host_pages
        super().__init__(num_pages, page_size, token_bytes, watermark=watermark, free_order=free_order)
        self._host_free = FreeList(range(host_pages))
        self._host_references = References()
        self._swapped: dict[int, PagedState] = {}  # their pages are pages of the host

    @property
    def kind(self) -> PolicyKind:
        """``PAGED``: pages, taken as a sequence grows."""
        return PolicyKind.PAGED

    def can_admit(self, num_tokens: int, final_len: int | None = None) -> Admission:
        """Return NOW if the pages fit above the watermark, NEVER if not even an empty pool has so many.

        Raises:
            ValueError: a length is out of range.
        """
        check_lengths(num_tokens, final_len)
        return self._may_take(ceil_div(num_tokens, self.page_size))

    def admit(self, seq_id: int, num_tokens: int, final_len: int | None = None) -> None:
        """Take pages for the first ``num_tokens`` tokens of a new sequence.

        Raises:
            ValueError: the sequence already holds memory, or a length is out of range.
            PoolExhausted: ``can_admit`` does not return NOW.
        """
        self._check_new(seq_id)
        check_lengths(num_tokens, final_len)
        count = ceil_div(num_tokens, self.page_size)
        if count + self._kept_pages > self._available:
            raise self._refusal(seq_id, count)
        self._add(seq_id, PagedState(self._stopped_clock, num_tokens, final_len or 0, self._take(count)))
        self._count["admissions"] += 1
        self._count["pages_taken_admit"] += count

    def can_append(self, seq_id: int, num_tokens: int = 1) -> bool:
        """Return whether ``append`` would succeed.

        Raises:
            KeyError: the sequence holds no memory.
            ValueError: ``num_tokens`` is not positive.
        """
        return self._pages_to_append(self._changeable_state(seq_id), num_tokens) <= self._available

    def append(self, seq_id: int, num_tokens: int = 1) -> Sequence[PageCopy]:
        """Take slots for the next tokens of a sequence. Return the page copies to make before they are written.

        Raises:
            KeyError: the sequence holds no memory.
            ValueError: ``num_tokens`` is not positive.
            PoolExhausted: too few pages are available. The caller must free or preempt a sequence.
        """
        state = self._changeable_state(seq_id)
        if self._fills_own_page(state, num_tokens):
            state.offset += num_tokens
            self._tokens += num_tokens
            self._count["appends"] += num_tokens
            return ()
        needed = self._pages_to_append(state, num_tokens)
        if needed > self._available:
            raise PoolExhausted(f"sequence {seq_id} needs {needed} more pages and {self._available} are available")
        copies = (self._copy_tail(state),) if state.pages[-1] in self._tail_owners else ()
        self._unused -= state.unused_of(len(state.pages) * self.page_size)
        if needed > len(copies):
            state.pages += self._take(needed - len(copies))
        state.offset += num_tokens
        self._tokens += num_tokens
        self._unused += state.unused_of(len(state.pages) * self.page_size)
        self._count["appends"] += num_tokens
        self._count["pages_taken_append"] += needed
        return copies

    def free(self, seq_id: int) -> None:
        """Release all that a sequence holds, in the pool or on the host.

        Its first page is the next page to be taken, unless other sequences share it.

        Raises:
            KeyError: the sequence holds no memory, for example because it was freed already.
        """
        if seq_id in self._swapped:
            self._host_free.give(self._host_references.drop(self._swapped.pop(seq_id).pages))
        else:
            self._remove(seq_id)
        self._count["frees"] += 1

    def fork(self, parent_id: int, child_id: int, final_len: int | None = None) -> None:
        """Create a sequence that shares all pages of another sequence. This takes no memory.

        Args:
            parent_id: the sequence to share with.
            child_id: the new sequence.
            final_len: final length of the child. That of the parent if ``None``.

        Raises:
            KeyError: the parent holds no memory.
            ValueError: the child already holds memory, or its final length is below the length of the parent.
        """
        parent = self._changeable_state(parent_id)
        self._check_new(child_id)
        num_tokens = parent.num_tokens
        check_lengths(num_tokens, final_len)
        child = PagedState(self._stopped_clock, num_tokens, final_len or parent.final_len, parent.pages[:])
        unused_before = self._unused_by(parent) if final_len else 0  # an equal child changes nothing
        self._references.add(child.pages)
        if num_tokens % self.page_size:
            self._tail_owners.setdefault(child.pages[-1], [parent]).append(child)
        self._unused += self._unused_by(child) - unused_before if final_len else 0
        self._states[child_id] = child
        self._tokens += num_tokens
        self._saved += num_tokens
        self._count["forks"] += 1

    def follow(self, child_id: int, parent_id: int) -> None:
        """Replace a sequence by a copy of another, as ``free`` and ``fork`` do, but leave pages that both share.

        The beams of one request mostly differ in their last pages only.

        Raises:
            KeyError: the sequence holds no memory.
            ValueError: the sequences differ in their length or their final length.
        """
        child, parent = self._changeable_state(child_id), self._changeable_state(parent_id)
        if (child.offset, child.final_len) != (parent.offset, parent.final_len):
            raise ValueError(
                f"sequence {child_id} cannot follow {parent_id}: their lengths {child.offset} and {parent.offset}, and "
                f"their final lengths {child.final_len} and {parent.final_len}, must be equal"
            )
        common = next((i for i, (a, b) in enumerate(zip(child.pages, parent.pages, strict=True)) if a != b), None)
        self._count["forks"] += 1
        self._count["frees"] += 1
        if common is None:
            return
        self._disown_tail(child)
        own, tail = child.pages[common:], child.pages[-1]
        ownerless = self._references.drop(own)
        unfilled = len(child.pages) * self.page_size - child.offset
        self._saved += len(ownerless) * self.page_size - (unfilled if ownerless and ownerless[-1] == tail else 0)
        self._release(ownerless)
        self._count["pages_freed"] += len(ownerless)
        child.pages[common:] = parent.pages[common:]
        self._references.add(child.pages[common:])
        if unfilled:
            self._tail_owners.setdefault(child.pages[-1], [parent]).append(child)

    def shares_last_page(self, seq_id: int) -> bool:
        """Return whether the last page of a sequence is shared and partly filled, so that the next append copies it.

        Raises:
            KeyError: the sequence holds no memory.
        """
        return self._state(seq_id).pages[-1] in self._tail_owners

    def preempt(self, seq_id: int) -> int:
        """Evict a sequence and keep nothing of it. Its tokens must be computed again.

        Returns:
            The number of tokens that it had, which is the prompt length of its next admission.

        Raises:
            KeyError: the sequence holds no memory.
        """
        state = self._remove(seq_id)
        self._count["preemptions"] += 1
        return state.num_tokens

    def can_swap_out(self, *seq_ids: int) -> bool:
        """Return whether the host has enough free pages for these sequences.

        Raises:
            KeyError: the sequence holds no memory.
        """
        return len(_union(self._changeable_state(seq_id) for seq_id in seq_ids)) <= len(self._host_free)

    def swap_out(self, *seq_ids: int) -> list[PageCopy]:
        """Move sequences to the host together. Pages that they share with each other stay shared.

        Pages that other sequences share, too, are copied and remain in the pool.

        Returns:
            The copies to make, from pages of the pool to pages of the host.

        Raises:
            KeyError: the sequence holds no memory.
            PoolExhausted: the host has too few free pages. Nothing is changed.
        """
        pages = _union(self._changeable_state(seq_id) for seq_id in seq_ids)
        if len(pages) > len(self._host_free):
            listed = ", ".join(map(str, seq_ids))
            raise PoolExhausted(
                f"sequence {listed} needs {len(pages)} pages of the host; {len(self._host_free)} are free"
            )
        host_of = dict(zip(pages, self._host_free.take(len(pages)), strict=True))
        moved: set[int] = set()
        for seq_id in seq_ids:
            state = self._remove(seq_id)
            state.pages = page_ids([host_of[page] for page in state.pages])
            self._host_references.add(page for page in state.pages if page in moved)
            moved.update(state.pages)
            self._swapped[seq_id] = state
        self._count["pages_swapped_out"] += len(pages)
        return [PageCopy(page, host_page) for page, host_page in host_of.items()]

    def pages_to_swap_in(self, *seq_ids: int) -> int:
        """Return the pages that swapped sequences take when they come back together.

        Raises:
            KeyError: a sequence is not swapped out.
        """
        return len(_union(self._swapped_state(seq_id) for seq_id in seq_ids))

    def can_swap_in(self, *seq_ids: int) -> Admission:
        """Return whether swapped sequences may come back. Like an admission, this respects the watermark.

        Raises:
            KeyError: a sequence is not swapped out.
        """
        return self._may_take(self.pages_to_swap_in(*seq_ids))

    def swap_in(self, *seq_ids: int) -> list[PageCopy]:
        """Move sequences back from the host together. Pages that they share with each other stay shared.

        Returns:
            The copies to make, from pages of the host to pages of the pool.

        Raises:
            KeyError: a sequence is not swapped out.
            PoolExhausted: ``can_swap_in`` does not return NOW.
        """
        sources = _union(self._swapped_state(seq_id) for seq_id in seq_ids)
        if self._may_take(len(sources)) is not Admission.NOW:
            raise self._refusal(seq_ids[0], len(sources))
        page_of = dict(zip(sources, self._take(len(sources)), strict=True))
        owner_of: dict[int, PagedState] = {}  # by page: the first sequence that came back with it
        for seq_id in seq_ids:
            state = self._swapped.pop(seq_id)
            self._host_free.give(self._host_references.drop(state.pages))
            state.pages = page_ids([page_of[page] for page in state.pages])
            self._add_swapped_in(seq_id, state, owner_of)
        self._count["pages_swapped_in"] += len(sources)
        return [PageCopy(host_page, page) for host_page, page in page_of.items()]

    def _add_swapped_in(self, seq_id: int, state: PagedState, owner_of: dict[int, PagedState]) -> None:
        """Add a sequence that may share pages with sequences that came back before it."""
        shared = [page for page in state.pages if page in owner_of]
        tail, tail_tokens = state.pages[-1], state.num_tokens % self.page_size
        owner = owner_of.get(tail) if tail_tokens else None
        if owner is not None:
            self._unused -= self._unused_by(owner)
            self._tail_owners.setdefault(tail, [owner]).append(state)
        self._references.add(shared)
        self._saved += len(shared) * self.page_size - (self.page_size - tail_tokens if owner is not None else 0)
        self._states[seq_id] = state
        self._tokens += state.offset
        self._unused += self._unused_by(state)
        for page in state.pages:
            owner_of.setdefault(page, state)

    def _swapped_state(self, seq_id: int) -> PagedState:
        try:
            return self._swapped[seq_id]
        except KeyError:
            raise KeyError(f"sequence {seq_id} is not swapped out") from None

    def _check_new(self, seq_id: int) -> None:
        if seq_id in self._states or seq_id in self._swapped:
            raise ValueError(f"seq_id={seq_id} holds memory already, here or on the host, and must be freed first")


def _union(states: Iterable[PagedState]) -> list[int]:
    """Return the pages of several sequences, each once."""
    return list(dict.fromkeys(page for state in states for page in state.pages))
