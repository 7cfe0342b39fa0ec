"""Paged memory: a pool of equal pages, taken one by one as sequences grow."""

from __future__ import annotations

from collections.abc import Sequence

from impls.interface import Admission, PageCopy, PoolExhausted
from impls.policies.freelist import FreeList
from impls.policies.ledger import check_at_least, check_lengths
from impls.policies.page_ledger import PagedState, PageLedger
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
        super().__init__(num_pages, page_size, token_bytes, watermark=watermark, free_order=free_order)
        self._host_free = FreeList(range(host_pages))
        self._swapped: dict[int, PagedState] = {}  # their pages are the host's

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
        needed = self._pages_to_append(state, num_tokens)
        if needed > self._available:
            raise PoolExhausted(f"sequence {seq_id} needs {needed} pages more and {self._available} are available")
        copies = (self._copy_tail(state),) if state.pages[-1] in self._tail_owners else ()
        self._unused -= self._unused_by(state)
        state.pages += self._take(needed - len(copies))
        state.offset += num_tokens
        self._tokens += num_tokens
        self._unused += self._unused_by(state)
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
            self._host_free.give(self._swapped.pop(seq_id).pages)
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
        self._unused -= self._unused_by(parent)
        self._references.add(child.pages)
        if num_tokens % self.page_size:
            self._tail_owners.setdefault(child.pages[-1], [parent]).append(child)
        self._unused += self._unused_by(child)
        self._states[child_id] = child
        self._tokens += num_tokens
        self._saved += num_tokens
        self._count["forks"] += 1

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

    def can_swap_out(self, seq_id: int) -> bool:
        """Whether the host has room for a sequence's pages.

        Raises:
            KeyError: no such sequence.
        """
        return len(self._own(seq_id).pages) <= len(self._host_free)

    def swap_out(self, seq_id: int) -> list[PageCopy]:
        """Move a sequence to the host; shared pages are copied there and stay for the others.

        Returns:
            The copies to make, from pages of the pool to pages of the host.

        Raises:
            KeyError: no such sequence.
            PoolExhausted: the host has too few free pages.
        """
        if not self.can_swap_out(seq_id):
            raise PoolExhausted(f"the host's {len(self._host_free)} free pages do not hold sequence {seq_id}")
        state = self._exit(seq_id)
        pages, state.pages = state.pages, self._host_free.take(len(state.pages))
        self._swapped[seq_id] = state
        self._count["pages_swapped_out"] += len(pages)
        return list(map(PageCopy, pages, state.pages))

    def can_swap_in(self, seq_id: int) -> Admission:
        """Whether a swapped sequence may come back; like an admission, it respects the watermark.

        Raises:
            KeyError: the sequence is not swapped out.
        """
        return self._may_take(len(self._swapped_state(seq_id).pages))

    def swap_in(self, seq_id: int) -> list[PageCopy]:
        """Bring a sequence back from the host, into pages of its own.

        Returns:
            The copies to make, from pages of the host to pages of the pool.

        Raises:
            KeyError: the sequence is not swapped out.
            PoolExhausted: ``can_swap_in`` would not have answered NOW.
        """
        state = self._swapped_state(seq_id)
        if self.can_swap_in(seq_id) is not Admission.NOW:
            raise self._refusal(seq_id, len(state.pages))
        del self._swapped[seq_id]
        sources, state.pages = state.pages, self._take(len(state.pages))
        self._host_free.give(sources)
        self._enter(seq_id, state)
        self._count["pages_swapped_in"] += len(sources)
        return list(map(PageCopy, sources, state.pages))

    def _swapped_state(self, seq_id: int) -> PagedState:
        try:
            return self._swapped[seq_id]
        except KeyError:
            raise KeyError(f"sequence {seq_id} is not swapped out") from None

    def _check_new(self, seq_id: int) -> None:
        if seq_id in self._states or seq_id in self._swapped:
            raise ValueError(f"seq_id={seq_id} holds memory already, here or on the host, and must be freed first")
