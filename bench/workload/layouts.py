"""Page layouts: the order in which a page pool assigns its pages."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bench.workload.request_columns import Requests
from bench.workload.streams import Stream, generator
from impls.interface import Admission
from impls.policies.pages import PagePool
from impls.spec import ceil_div


def page_order(layout: str, *, pages_per_seq: Sequence[int], num_pages: int, seed: int) -> NDArray[np.int64]:
    """Return the order of a pool's pages that gives a layout to sequences admitted one after another.

    Each sequence takes all of its pages at once from the front of the order. ``contiguous`` assigns ascending
    pages. ``interleaved`` puts page j of sequence i at ``j * num_seqs + i``, compacted where sequences differ in
    length. ``shuffled`` is one permutation of the whole pool.

    Args:
        layout: ``contiguous``, ``interleaved`` or ``shuffled``. (``aged`` has ``aged_order``, and ``shared_prefix``
            is made by forking, not by an order.)
        pages_per_seq: pages of each sequence, in order of admission.
        num_pages: pages in the pool.
        seed: seed of the permutation of ``shuffled``.

    Returns:
        int64 ``[num_pages]``, a permutation of ``range(num_pages)``.

    Raises:
        ValueError: the layout is another one, or the sequences need more pages than the pool has.

    >>> page_order("interleaved", pages_per_seq=[3, 1], num_pages=5, seed=0).tolist()
    [0, 2, 3, 1, 4]
    """
    if sum(pages_per_seq) > num_pages:
        raise ValueError(f"pages_per_seq sums to {sum(pages_per_seq)}, more than num_pages={num_pages}")
    match layout:
        case "contiguous":
            return np.arange(num_pages, dtype=np.int64)
        case "interleaved":
            return _interleaved(np.asarray(pages_per_seq, dtype=np.int64), num_pages)
        case "shuffled":
            return generator(seed, Stream.SHUFFLED_PAGES).permutation(num_pages)
    raise ValueError(f"layout={layout} must be contiguous, interleaved or shuffled")


def _interleaved(pages_per_seq: NDArray[np.int64], num_pages: int) -> NDArray[np.int64]:
    """Return a round-robin order over the sequences that still need a page."""
    used = int(pages_per_seq.sum())
    seq = np.repeat(np.arange(len(pages_per_seq)), pages_per_seq)  # [used], in order of admission
    first = np.cumsum(pages_per_seq) - pages_per_seq
    nth = np.arange(used) - np.repeat(first, pages_per_seq)  # [used], index of the page within its sequence
    order = np.arange(num_pages, dtype=np.int64)
    order[np.lexsort((seq, nth))] = np.arange(used)
    return order


def aged_order(requests: Requests, *, num_pages: int, page_size: int, turnovers: float, seed: int) -> NDArray[np.int64]:
    """Return the order of a pool's free list after long service.

    A real page pool serves requests that are drawn with replacement from an endless queue. The head enters as soon
    as its prompt fits. Running sequences grow in turn by up to a page. A finished sequence leaves, and if no page is
    left, the newest leaves. After ``turnovers * num_pages`` pages were taken, the rest leave in random order.

    Args:
        requests: lengths to serve.
        num_pages: pages in the pool.
        page_size: tokens per page.
        turnovers: how often the whole pool is taken. 0 leaves a fresh pool.
        seed: seed of the drawn requests, and of the order in which the last ones leave.

    Returns:
        int64 ``[num_pages]``, a permutation of ``range(num_pages)``, the next page first.

    Raises:
        ValueError: no request fits the pool.
    """
    fitting = np.flatnonzero(requests.final_lens <= num_pages * page_size)
    if len(fitting) == 0:
        raise ValueError(f"num_pages={num_pages} of page_size={page_size} hold none of the requests")
    rng = generator(seed, Stream.AGED_PAGES)
    ageing = _Ageing(PagePool(num_pages, page_size, token_bytes=1), requests.take(fitting), rng)
    while ageing.taken_pages < turnovers * num_pages:
        ageing.grow_all()
        ageing.admit_until_full()  # last, so that the pool is full before its sequences leave in random order
    return ageing.drain()


class _Ageing:
    """A page pool under load. Sequences are numbered by admission, so the newest is the last."""

    def __init__(self, pool: PagePool, requests: Requests, rng: np.random.Generator) -> None:
        self.pool = pool
        self.rng = rng
        self.taken_pages = 0
        self._lens = list(zip(requests.prompt_lens.tolist(), requests.output_lens.tolist(), strict=True))
        self._output_left: dict[int, int] = {}  # running sequences, oldest first
        self._next_id = 0
        self._head = self._draw()

    def admit_until_full(self) -> None:
        """Admit from the queue until its head does not fit."""
        while self.pool.can_admit(self._head[0]) is Admission.NOW:
            prompt_len, output_len = self._head
            self.pool.admit(self._next_id, prompt_len)
            self.taken_pages += ceil_div(prompt_len, self.pool.page_size)
            self._output_left[self._next_id] = output_len
            self._next_id += 1
            self._head = self._draw()

    def grow_all(self) -> None:
        """Let every running sequence, oldest first, generate up to a page of tokens. Finished ones leave."""
        for seq_id in list(self._output_left):
            while seq_id in self._output_left and not self._grow(seq_id):
                self._leave(next(reversed(self._output_left)))

    def drain(self) -> NDArray[np.int64]:
        """Let the rest leave in random order. Return the order in which the pool would assign its pages."""
        for seq_id in self.rng.permutation(list(self._output_left)).tolist():
            self._leave(seq_id)
        everything = self._next_id
        self.pool.admit(everything, self.pool.num_pages * self.pool.page_size)
        return np.array(self.pool.page_ids(everything), dtype=np.int64)

    def _grow(self, seq_id: int) -> bool:
        """Grow a sequence. Return whether there was a page for it, if it needed one."""
        num_tokens = min(self.pool.page_size, self._output_left[seq_id])
        if num_tokens == 0:
            self._leave(seq_id)
            return True
        if not self.pool.can_append(seq_id, num_tokens):
            return False
        free_before = self.pool.free_pages
        self.pool.append(seq_id, num_tokens)
        self.taken_pages += free_before - self.pool.free_pages
        self._output_left[seq_id] -= num_tokens
        return True

    def _leave(self, seq_id: int) -> None:
        self.pool.free(seq_id)
        del self._output_left[seq_id]

    def _draw(self) -> tuple[int, int]:
        """Return prompt and output tokens of the next request."""
        return self._lens[int(self.rng.integers(len(self._lens)))]
