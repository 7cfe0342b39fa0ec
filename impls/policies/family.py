"""The beams of one request: sequences of equal length that grow together and become copies of one another.

``PagePool.follow`` and ``append`` say the same a beam at a time. Here a step touches the pages in which beams
really differ: a beam that dies mostly differs from its heir by its last page, which the next token makes its own again.
"""

from __future__ import annotations

from collections.abc import Sequence

from impls.interface import PoolExhausted
from impls.policies.ledger import Clock
from impls.policies.page_ledger import PagedState
from impls.policies.pages import PagePool


class Family:
    """Beams that decode together; each step is ``grow`` then ``cross``, and sums over the pool are exact after each.

    Until they leave, nobody else can change them, and ``PagePool.shared_pages`` does not tell of partly filled
    last pages that they share.

    Args:
        pool: where the beams live.
        seq_ids: the beams; each owns its last page alone, or that page is full.

    Raises:
        KeyError: no such sequence.
        ValueError: a beam shares a partly filled last page, or decodes elsewhere, or they differ in their length, or
            in their final length.
    """

    def __init__(self, pool: PagePool, seq_ids: Sequence[int]) -> None:
        lengths = {(pool.seq_len(seq_id), pool.final_len(seq_id)) for seq_id in seq_ids}
        if len(lengths) > 1:
            raise ValueError(f"beams {list(seq_ids)} must be of one length and one final length, not {sorted(lengths)}")
        self._pool = pool
        self._seq_ids = seq_ids
        self._clock = Clock()
        self._states: list[PagedState] = []
        try:
            for seq_id in seq_ids:
                self._states.append(pool.join(seq_id, self._clock))
        except ValueError:
            for seq_id in seq_ids[: len(self._states)]:
                pool.leave(seq_id)
            raise
        self._tables = [state.pages for state in self._states]
        self._heirs: list[tuple[PagedState, PagedState]] = []  # who shares a partly filled last page, and with whom

    @property
    def num_tokens(self) -> int:
        """Length of every beam."""
        return self._states[0].offset + self._clock.now

    @property
    def pages_for_next(self) -> int:
        """Pages that the next token takes, copies of shared last pages included."""
        return len(self._heirs) if self.num_tokens % self._pool.page_size else len(self._tables)

    def grow(self) -> None:
        """Append one token to every beam.

        Raises:
            PoolExhausted: there are too few pages; nothing was changed.
        """
        pool, tokens = self._pool, self.num_tokens
        tail, unused = tokens % pool.page_size, 0
        needed = len(self._heirs) if tail else len(self._tables)
        if needed > pool.available_pages:
            raise PoolExhausted(f"{needed} pages are needed and {pool.available_pages} are available")
        if not tail:
            pool.extend(self._tables)
            unused = needed * self._unused_at(tokens)
        elif needed:
            pool.copy_tails([child.pages for child, _ in self._heirs], tail, self._unused_at(tokens))
            self._heirs = []
        self._clock.now += 1
        pool.tick(len(self._tables), unused)

    def cross(self, forks: Sequence[tuple[int, int]]) -> None:
        """Let beams become copies of others.

        Args:
            forks: (parent, child) of each beam that dies, by their places; no parent is a child, no child comes twice.

        Raises:
            ValueError: they crossed since they last grew.
        """
        if self._heirs:
            raise ValueError("beams cross once after each token: let them grow first")
        pool, tables, tokens = self._pool, self._tables, self.num_tokens
        full, tail = divmod(tokens, pool.page_size)
        if full:
            for parent, child in forks:
                if tables[child][full - 1] != tables[parent][full - 1]:
                    pool.adopt(tables[child], tables[parent], full)
        if tail:
            pool.share_tails([tables[child][-1] for _, child in forks], tail, self._unused_at(tokens))
            for parent, child in forks:
                tables[child][-1] = tables[parent][-1]
                self._heirs.append((self._states[child], self._states[parent]))
        pool.count_crossed(len(forks))

    def leave(self) -> None:
        """Let the beams stop decoding together; each keeps its memory and its length."""
        for seq_id in self._seq_ids:
            self._pool.leave(seq_id)
        if self._heirs:
            self._pool.own_tails(self._heirs)
            self._heirs = []

    def _unused_at(self, token: int) -> int:
        """Slots that no beam will ever fill, of the page that holds a token: all but the last are filled."""
        size, final_len = self._pool.page_size, self._states[0].final_len
        return -final_len % size if token // size == (final_len - 1) // size else 0
