"""The beams of one request: sequences of equal length that grow together and become copies of one another.

``PagePool.follow`` and ``append`` do the same for one beam at a time. Here a step changes only the pages in which
beams differ. A beam that is replaced mostly differs from its parent in its last page, and the next token gives
each of the two a last page of its own again.
"""

from __future__ import annotations

from collections.abc import Sequence

from impls.interface import PoolExhausted
from impls.policies.ledger import Clock
from impls.policies.page_ledger import PagedState
from impls.policies.pages import PagePool


class Family:
    """The beams of one request, which decode together. Each step is ``grow`` and then ``cross``.

    The sums of the pool are exact after each call. Until ``leave``, the beams can be changed only here, and the pool
    does not count the owners of the partly filled last pages that beams share.

    Args:
        pool: holds the beams.
        seq_ids: the beams. Each owns its last page alone, or that page is full.

    Raises:
        KeyError: a sequence is not in the pool.
        ValueError: a beam shares a partly filled last page or already decodes in a batch, or the beams differ in
            their length or final length.
    """

    def __init__(self, pool: PagePool, seq_ids: Sequence[int]) -> None:
        states = [pool._state(seq_id) for seq_id in seq_ids]
        lengths = {(state.num_tokens, state.final_len) for state in states}
        if len(lengths) > 1:
            raise ValueError(f"beams {list(seq_ids)} must be of one length and one final length, not {sorted(lengths)}")
        self._pool = pool
        self._seq_ids = seq_ids
        self._clock = Clock()
        self._states: list[PagedState] = []
        try:
            for seq_id in seq_ids:
                self._states.append(pool._join(seq_id, self._clock))
        except ValueError:
            for seq_id in seq_ids[: len(self._states)]:
                pool._leave(seq_id)
            raise
        self._tables = [state.pages for state in self._states]
        self._shared_tails: list[tuple[PagedState, PagedState]] = []  # (child, parent) of each shared last page

    @property
    def num_tokens(self) -> int:
        """Length of every beam."""
        return self._states[0].offset + self._clock.now

    @property
    def pages_for_next(self) -> int:
        """Pages that the next token takes, including copies of shared last pages."""
        return len(self._shared_tails) if self.num_tokens % self._pool.page_size else len(self._tables)

    def grow(self) -> None:
        """Append one token to every beam.

        Raises:
            PoolExhausted: there are too few pages. Nothing is changed.
        """
        pool, tokens = self._pool, self.num_tokens
        tail, unused = tokens % pool.page_size, 0
        needed = len(self._shared_tails) if tail else len(self._tables)
        if needed > pool.available_pages:
            raise PoolExhausted(f"{needed} pages are needed and {pool.available_pages} are available")
        if not tail:
            pool._extend(self._tables)
            unused = needed * self._unused_at(tokens)
        elif needed:
            pool._copy_tails([child.pages for child, _ in self._shared_tails], tail, self._unused_at(tokens))
            self._shared_tails = []
        self._clock.now += 1
        pool._tick(len(self._tables), unused)

    def cross(self, forks: Sequence[tuple[int, int]]) -> None:
        """Replace beams by copies of other beams.

        Args:
            forks: (parent, child) for each child that becomes a copy of its parent, as indices into ``seq_ids``. No
                parent is a child, and no child occurs twice.

        Raises:
            ValueError: ``cross`` was called after the last ``grow`` already.
        """
        if self._shared_tails:
            raise ValueError("beams cross once after each token: call grow before the next cross")
        pool, tables, tokens = self._pool, self._tables, self.num_tokens
        full, tail = divmod(tokens, pool.page_size)
        if full:
            for parent, child in forks:
                if tables[child][full - 1] != tables[parent][full - 1]:
                    pool._adopt(tables[child], tables[parent], full)
        if tail:
            pool._share_tails([tables[child][-1] for _, child in forks], tail, self._unused_at(tokens))
            for parent, child in forks:
                tables[child][-1] = tables[parent][-1]
                self._shared_tails.append((self._states[child], self._states[parent]))
        pool._count_crossed(len(forks))

    def leave(self) -> None:
        """Stop decoding together. Each beam keeps its memory and its length."""
        for seq_id in self._seq_ids:
            self._pool._leave(seq_id)
        if self._shared_tails:
            self._pool._own_tails(self._shared_tails)
            self._shared_tails = []

    def _unused_at(self, token: int) -> int:
        """Slots that no beam will ever fill, in the page that holds ``token``. Only the last page has such slots."""
        size, final_len = self._pool.page_size, self._states[0].final_len
        return -final_len % size if token // size == (final_len - 1) // size else 0
