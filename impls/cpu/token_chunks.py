"""Cutting a batch into chunks of tokens, in groups for one call of attention each. Pure NumPy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from impls.storage.page_table import PageTable


@dataclass(frozen=True, kw_only=True)
class ChunkGroup:
    """Chunks that one call of attention computes together, the longest first.

    Attributes:
        slots: int32 ``[num_chunks, width]``, the slot of each token. Past the end of a chunk the slot of its last
            token is repeated, so that the data read there is finite.
        lens: int64 ``[num_chunks]``, tokens of each chunk.
        seqs: int64 ``[num_chunks]``, the batch row of each chunk.
    """

    slots: NDArray[np.int32]
    lens: NDArray[np.int64]
    seqs: NDArray[np.int64]

    @property
    def is_ragged(self) -> bool:
        """Whether a chunk is shorter than the width."""
        return bool(self.lens[-1] < self.lens[0])

    @property
    def is_consecutive(self) -> bool:
        """Whether the slots are adjacent and ascending, so that they can be read in place."""
        span = int(self.slots[-1, -1]) - int(self.slots[0, 0])  # a cheap test that is enough in nearly every case
        return span == self.slots.size - 1 and bool((np.diff(self.slots.reshape(-1)) == 1).all())


def cut(table: PageTable, chunk_tokens: int, group_tokens: int, num_groups: int = 1) -> list[ChunkGroup]:
    """Cut every sequence into chunks, and group chunks of similar length.

    Chunks of equal length are sorted by their first slot, so that adjacent pages come together.

    Args:
        table: page table of the batch.
        chunk_tokens: tokens per chunk. The last chunk of a sequence may be shorter.
        group_tokens: maximum number of tokens of a group. A group has at least one chunk.
        num_groups: minimum number of groups, as far as there are so many chunks.
    """
    chunks_per_seq = -(-table.seq_lens.astype(np.int64) // chunk_tokens)
    seqs = np.repeat(np.arange(len(chunks_per_seq)), chunks_per_seq)
    first_chunk = np.cumsum(chunks_per_seq) - chunks_per_seq
    starts = (np.arange(len(seqs)) - first_chunk[seqs]) * chunk_tokens
    lens = np.minimum(table.seq_lens[seqs] - starts, chunk_tokens)
    slots = _slots(table, seqs, starts, lens)
    order = np.lexsort((slots[:, 0], -lens))
    step = max(1, min(group_tokens // chunk_tokens, len(order) // num_groups))
    groups = [order[first : first + step] for first in range(0, len(order), step)]
    return [ChunkGroup(slots=slots[group, : lens[group[0]]], lens=lens[group], seqs=seqs[group]) for group in groups]


def chunks_of_seqs(groups: Sequence[ChunkGroup], num_seqs: int) -> NDArray[np.int64]:
    """Return the chunks of each sequence.

    Returns:
        ``[num_seqs, max_chunks_per_seq]``: indices into the chunks of all groups, one group after another. Rows of
        sequences with fewer chunks are filled up with the number of all chunks.
    """
    seqs = np.concatenate([group.seqs for group in groups])
    order = np.argsort(seqs, kind="stable")
    counts = np.bincount(seqs, minlength=num_seqs)
    chunks = np.full((num_seqs, counts.max()), len(seqs), dtype=np.int64)
    chunks[np.arange(counts.max()) < counts[:, None]] = order
    return chunks


def _slots(
    table: PageTable, seqs: NDArray[np.int64], starts: NDArray[np.int64], lens: NDArray[np.int64]
) -> NDArray[np.int32]:
    """Return the slot of each token of each chunk. The last slot is repeated up to the longest chunk."""
    in_page = np.arange(table.page_size, dtype=np.int32)
    slots = table.page_table[:, :, None] * np.int32(table.page_size) + in_page  # [num_seqs, pages, page_size]
    tokens = starts[:, None] + np.minimum(np.arange(lens.max(initial=0)), lens[:, None] - 1)
    return slots.reshape(len(slots), -1)[seqs[:, None], tokens]
