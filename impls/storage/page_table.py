"""The page table of one decode step, built on the host for every paged implementation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class PageOwner(Protocol):
    """The part of a memory policy that the page table requires."""

    @property
    def page_size(self) -> int:
        """Tokens per page."""

    def page_ids(self, seq_id: int) -> Sequence[int]:
        """Return the pages of the sequence, in token order. An ``array('i')`` is copied in one block."""

    def seq_len(self, seq_id: int) -> int:
        """Return the number of tokens of the sequence that have a slot."""


@dataclass(frozen=True, kw_only=True)
class PageTable:
    """The pages that each sequence of a batch reads, and the slot where its newest token is written.

    Attributes:
        page_table: int32 ``[num_seqs, max_pages_per_seq]``, -1 past a sequence's last page.
        seq_lens: int32 ``[num_seqs]``, tokens per sequence, including the newest.
        slot_mapping: int64 ``[num_seqs]``, the slot of each sequence's newest token.
        page_size: tokens per page.
    """

    page_table: NDArray[np.int32]
    seq_lens: NDArray[np.int32]
    slot_mapping: NDArray[np.int64]
    page_size: int

    @property
    def max_seq_len(self) -> int:
        """Tokens of the longest sequence."""
        return int(self.seq_lens.max())

    @property
    def num_tokens(self) -> int:
        """Tokens of all sequences together. A shared page counts once per sequence."""
        return int(self.seq_lens.sum(dtype=np.int64))


def build_page_table(policy: PageOwner, seq_ids: Sequence[int]) -> PageTable:
    """Return the pages, the length and the slot of the newest token of each sequence.

    The Python loop runs over sequences, and copies the pages of each in one block. With one token per page a loop over
    pages would take as long as one over tokens.

    Args:
        policy: the policy that assigned the pages.
        seq_ids: the batch. Each sequence becomes one row of the table, in this order.

    Raises:
        ValueError: the batch is empty.
        KeyError: a sequence holds no memory.
    """
    if not seq_ids:
        raise ValueError("seq_ids=[] must name at least one sequence")
    num_seqs = len(seq_ids)
    pages = [policy.page_ids(seq_id) for seq_id in seq_ids]
    seq_lens = np.fromiter(map(policy.seq_len, seq_ids), dtype=np.int32, count=num_seqs)
    page_table = np.full((num_seqs, max(map(len, pages))), -1, dtype=np.int32)
    for row, owned in zip(page_table, pages, strict=True):
        row[: len(owned)] = owned
    newest = seq_lens.astype(np.int64) - 1
    newest_page = page_table[np.arange(num_seqs), newest // policy.page_size]
    return PageTable(
        page_table=page_table,
        seq_lens=seq_lens,
        slot_mapping=newest_page.astype(np.int64) * policy.page_size + newest % policy.page_size,
        page_size=policy.page_size,
    )


def check_shared(table: PageTable, shared_tokens: int) -> None:
    """Check that all sequences share the pages of their first tokens.

    Args:
        table: page table of the batch.
        shared_tokens: number of tokens that all sequences must share.

    Raises:
        ValueError: ``shared_tokens`` is not a multiple of the page size, is below one page or above the shortest
            sequence, or a page is not shared.
    """
    shortest = int(table.seq_lens.min())
    if shared_tokens % table.page_size or not table.page_size <= shared_tokens <= shortest:
        raise ValueError(
            f"shared_tokens={shared_tokens} must be a multiple of page_size={table.page_size} "
            f"from {table.page_size} to {shortest}, the length of the shortest sequence"
        )
    pages = table.page_table[:, : shared_tokens // table.page_size]
    differing = np.flatnonzero((pages != pages[0]).any(axis=0))
    if differing.size:
        raise ValueError(f"shared_tokens={shared_tokens}: page {differing[0]} of the sequences is not shared by all")


def unique_live_tokens(table: PageTable, window: int | None = None) -> int:
    """Return the number of tokens that the queries of a batch read. Tokens on a shared page count once.

    Args:
        table: page table of the batch.
        window: number of newest tokens that a query sees. All tokens if ``None``.
    """
    if window is not None:
        return np.unique(_slots_in_window(table, window)).size
    # Of several sequences that share a page, the one with the most tokens on it counts.
    first_token = np.arange(table.page_table.shape[1]) * table.page_size
    filled = np.clip(table.seq_lens[:, None] - first_token, 0, table.page_size)
    live = filled > 0
    by_page = np.zeros(int(table.page_table.max()) + 1, dtype=np.int64)
    np.maximum.at(by_page, table.page_table[live], filled[live])
    return int(by_page.sum())


def _slots_in_window(table: PageTable, window: int) -> NDArray[np.int64]:
    """Return the slots that the queries see, one sequence after another. A shared slot occurs once per sequence."""
    spans = [np.arange(max(seq_len - window, 0), seq_len, dtype=np.int64) for seq_len in table.seq_lens.tolist()]
    return np.concatenate(
        [
            pages[tokens // table.page_size].astype(np.int64) * table.page_size + tokens % table.page_size
            for pages, tokens in zip(table.page_table, spans, strict=True)
        ]
    )
