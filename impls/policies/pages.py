"""Paged memory: a pool of equal pages, taken one by one as sequences grow."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from impls.interface import Admission, PageCopy, PolicyKind, PoolExhausted
from impls.policies.freelist import FreeList
from impls.policies.ledger import check_at_least, check_lengths
from impls.policies.page_ledger import PagedState, PageLedger
from impls.policies.references import References
from impls.spec import ceil_div


class PagePool(PageLedger):
    """A pool of pages with reference counts (PagedAttention paper, sections 4.2 to 4.5).

    A sequence holds exactly the pages that its tokens need. ``fork`` shares them all; a shared page
    is written by nobody: whoever appends to one that is partly filled copies it first, except the
    last owner, who writes in place.

    Args:
        num_pages: pages in the pool.
        page_size: tokens per page.
        token_bytes: bytes of one token's K and V over all layers.
        watermark: fraction of the pool that admission and swap-in keep free; appends may use it.
        host_pages: pages of the host's swap pool.
        free_order: the order in which a fresh pool hands out its pages, a permutation of
            ``range(num_pages)``; ascending if ``None``. Later, the page freed last is taken first.

    Attributes:
        host_pages: as given.

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
        check_at_least(0, host_pages=host_pages)
        self.host_pages = host_pages
        super().__init__(num_pages, page_size, token_bytes, watermark=watermark, free_order=free_order)
        self._host_free = FreeList(range(host_pages))
        self._host_references = References()
        self._swapped: dict[int, PagedState] = {}  # their pages are the host's

    @property
    def kind(self) -> PolicyKind:
        """Pages, taken as a sequence grows."""
        return PolicyKind.PAGED

    def can_admit(self, num_tokens: int, final_len: int | None = None) -> Admission:
        """NOW if the pages fit above the watermark, NEVER if not even into an empty pool.

        Raises:
            ValueError: a length is out of range.
        """
        check_lengths(num_tokens, final_len)
        return self._may_take(ceil_div(num_tokens, self.page_size))

    def admit(self, seq_id: int, num_tokens: int, final_len: int | None = None) -> None:
        """Take pages for the first ``num_tokens`` tokens of a new sequence.

        Raises:
            ValueError: the sequence is there already, or a length is out of range.
            PoolExhausted: ``can_admit`` would not have answered NOW.
        """
        self._check_new(seq_id)
        check_lengths(num_tokens, final_len)
        count = ceil_div(num_tokens, self.page_size)
        if count + self._kept_pages > self._available:
            raise self._refusal(seq_id, count)
        self._enter(seq_id, PagedState(self._still, num_tokens, final_len or 0, self._take(count)))
        self._count["admissions"] += 1
        self._count["pages_taken_admit"] += count

    def can_append(self, seq_id: int, num_tokens: int = 1) -> bool:
        """Whether ``append`` would succeed.

        Raises:
            KeyError: no such sequence.
            ValueError: ``num_tokens`` is not positive.
        """
        return self._pages_to_append(self._own(seq_id), num_tokens) <= self._available

    def append(self, seq_id: int, num_tokens: int = 1) -> Sequence[PageCopy]:
        """Take slots for the sequence's next tokens; returns the page copies to make first.

        Raises:
            KeyError: no such sequence.
            ValueError: ``num_tokens`` is not positive.
            PoolExhausted: too few pages are available; the caller must free or preempt.
        """
        state = self._own(seq_id)
        if self._fills_own_page(state, num_tokens):
            state.offset += num_tokens
            self._tokens += num_tokens
            self._count["appends"] += num_tokens
            return ()
        needed = self._pages_to_append(state, num_tokens)
        if needed > self._available:
            raise PoolExhausted(f"sequence {seq_id} needs {needed} pages more and {self._available} are available")
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
        """Give back all that a sequence holds, here or on the host.

        Its first page is the next to be handed out, unless others share it.

        Raises:
            KeyError: no such sequence (freed twice, say).
        """
        if seq_id in self._swapped:
            self._host_free.give(self._host_references.drop(self._swapped.pop(seq_id).pages))
        else:
            self._exit(seq_id)
        self._count["frees"] += 1

    def fork(self, parent_id: int, child_id: int, final_len: int | None = None) -> None:
        """Make a new sequence that shares all pages of another; takes no memory.

        Args:
            parent_id: the sequence to share with.
            child_id: the new one.
            final_len: the child's final length; the parent's if ``None``.

        Raises:
            KeyError: no such parent.
            ValueError: the child is there already, or its final length is below the parent's length.
        """
        parent = self._own(parent_id)
        self._check_new(child_id)
        num_tokens = parent.num_tokens
        check_lengths(num_tokens, final_len)
        child = PagedState(self._still, num_tokens, final_len or parent.final_len, parent.pages.copy())
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
        """Let a sequence become a copy of another: as ``free`` and ``fork``, but what both share is not touched.

        Beams of one request mostly differ in their last pages only.

        Raises:
            KeyError: no such sequence.
            ValueError: they differ in their length, or in their final length.
        """
        child, parent = self._own(child_id), self._own(parent_id)
        if (child.offset, child.final_len) != (parent.offset, parent.final_len):
            raise ValueError(
                f"sequence {child_id} cannot follow {parent_id}: their lengths {child.offset} and {parent.offset}, and "
                f"final lengths {child.final_len} and {parent.final_len}, must be equal"
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
        """Whether others own the sequence's last page too, and it is partly filled: the next append copies it.

        Raises:
            KeyError: no such sequence.
        """
        return self._state(seq_id).pages[-1] in self._tail_owners

    def preempt(self, seq_id: int) -> int:
        """Throw a sequence out; nothing of it is kept, and its tokens must be computed again.

        Returns:
            The tokens that it had: the prompt of its next admission.

        Raises:
            KeyError: no such sequence.
        """
        state = self._exit(seq_id)
        self._count["preemptions"] += 1
        return state.num_tokens

    def can_swap_out(self, *seq_ids: int) -> bool:
        """Whether the host has room for these sequences' pages.

        Raises:
            KeyError: no such sequence.
        """
        return len(_union(self._own(seq_id) for seq_id in seq_ids)) <= len(self._host_free)

    def swap_out(self, *seq_ids: int) -> list[PageCopy]:
        """Move sequences to the host together, where they share among each other what they shared here.

        Pages that others share, too, are copied and stay for those.

        Returns:
            The copies to make, from pages of the pool to pages of the host.

        Raises:
            KeyError: no such sequence.
            PoolExhausted: the host has too few free pages; nothing was changed.
        """
        pages = _union(self._own(seq_id) for seq_id in seq_ids)
        if len(pages) > len(self._host_free):
            listed = ", ".join(map(str, seq_ids))
            raise PoolExhausted(f"the host's {len(self._host_free)} free pages do not hold sequence {listed}")
        host_of = dict(zip(pages, self._host_free.take(len(pages)), strict=True))
        moved: set[int] = set()
        for seq_id in seq_ids:
            state = self._exit(seq_id)
            state.pages = [host_of[page] for page in state.pages]
            self._host_references.add(page for page in state.pages if page in moved)
            moved.update(state.pages)
            self._swapped[seq_id] = state
        self._count["pages_swapped_out"] += len(pages)
        return [PageCopy(page, host_page) for page, host_page in host_of.items()]

    def pages_to_swap_in(self, *seq_ids: int) -> int:
        """Pages that swapped sequences will take when they come back together.

        Raises:
            KeyError: a sequence is not swapped out.
        """
        return len(_union(self._swapped_state(seq_id) for seq_id in seq_ids))

    def can_swap_in(self, *seq_ids: int) -> Admission:
        """Whether swapped sequences may come back; like an admission, it respects the watermark.

        Raises:
            KeyError: a sequence is not swapped out.
        """
        return self._may_take(self.pages_to_swap_in(*seq_ids))

    def swap_in(self, *seq_ids: int) -> list[PageCopy]:
        """Bring sequences back from the host together; they share what they shared there.

        Returns:
            The copies to make, from pages of the host to pages of the pool.

        Raises:
            KeyError: a sequence is not swapped out.
            PoolExhausted: ``can_swap_in`` would not have answered NOW.
        """
        sources = _union(self._swapped_state(seq_id) for seq_id in seq_ids)
        if self._may_take(len(sources)) is not Admission.NOW:
            raise self._refusal(seq_ids[0], len(sources))
        page_of = dict(zip(sources, self._take(len(sources)), strict=True))
        owner_of: dict[int, PagedState] = {}  # the first to come back with each page
        for seq_id in seq_ids:
            state = self._swapped.pop(seq_id)
            self._host_free.give(self._host_references.drop(state.pages))
            state.pages = [page_of[page] for page in state.pages]
            self._reenter(seq_id, state, owner_of)
        self._count["pages_swapped_in"] += len(sources)
        return [PageCopy(host_page, page) for host_page, page in page_of.items()]

    def _reenter(self, seq_id: int, state: PagedState, owner_of: dict[int, PagedState]) -> None:
        """Account for a sequence that shares pages with those that came back before it."""
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
    """The pages of several sequences, each once."""
    return list(dict.fromkeys(page for state in states for page in state.pages))
