"""The work lists of decode and prefill steps: what each program attends to. NumPy alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from impls.spec import ceil_div

STARTUP_US: Final = 2.0
"""Time in which a program finds its tokens, fills its pipeline and stores its result."""
MERGE_US: Final = 3.0
"""Time that a second kernel takes before it has moved a byte.

On an H200 a sequence of 8,192 tokens in 16 parts takes 6 us more than reading one part. The model adds 5.
"""
_LEAST_GAIN: Final = 1.02  # sequences are split for more than two percent
_FEW_SPLITS: Final = 16  # up to here every number of splits is tried, above it steps of a quarter
_WHOLE: Final = -1  # part number of an item that is a whole sequence
_ALIGNMENT: Final = 4  # int32 elements: 16 bytes, which the kernels' launcher may rely on


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """The tokens that each sequence of a batch reads, in tiles.

    Attributes:
        first: int64 ``[num_seqs]``, first token read.
        lens: int64 ``[num_seqs]``, one past the last token read.
        tiles: int64 ``[num_seqs]``, tiles from ``first`` to ``lens``. 0 for an empty sequence.
        block_tokens: tokens per tile.
    """

    first: NDArray[np.int64]
    lens: NDArray[np.int64]
    tiles: NDArray[np.int64]
    block_tokens: int

    @classmethod
    def of(cls, seq_lens: NDArray[np.int32], window: int | None, block_tokens: int, shared_tokens: int = 0) -> Tokens:
        """Return what a batch reads: from the tile in which its window begins, as ``kernels.tiles`` has it.

        Args:
            seq_lens: int32 ``[num_seqs]``, the newest token included. 0 for a padding row.
            window: newest tokens that a query sees. All if ``None``.
            block_tokens: tokens per tile.
            shared_tokens: tokens at the beginning that are attended to apart. See ``SharedPrefix``.
        """
        lens = seq_lens.astype(np.int64)
        first = np.minimum(lens, shared_tokens)
        if window is not None:
            first = np.maximum(lens - window, 0) // block_tokens * block_tokens
        return cls(first=first, lens=lens, tiles=-(-(lens - first) // block_tokens), block_tokens=block_tokens)


@dataclass(frozen=True, kw_only=True)
class CostModel:
    """What a way to cut a batch costs on one device.

    Attributes:
        slots: programs that the device runs at a time.
        device_bytes_per_us: memory bandwidth of the device.
        program_bytes_per_us: what one program reads when it has the device to itself.
        programs_per_item: programs of each item of the work list: one per KV head, or more.
        tile_bytes: K and V of one tile, as one program reads it.
        part_bytes: partial results of one part that one program writes, written and read.
    """

    slots: int
    device_bytes_per_us: float
    program_bytes_per_us: float
    programs_per_item: int
    tile_bytes: int
    part_bytes: int

    def estimate_us(
        self, tiles: NDArray[np.int64], part_tiles: NDArray[np.int64], num_seqs: NDArray[np.int64] | int = 1
    ) -> NDArray[np.float64]:
        """Return the estimated time of each way to cut a batch.

        Programs that run together share the bandwidth evenly. Three bounds decide. All bytes pass
        through memory once. The longest program reads at its share of the bandwidth. The programs
        of the last, partial round may be too few to use the whole bandwidth.

        Args:
            tiles: ``[num_lengths]``, tiles of a sequence.
            part_tiles: ``[num_ways]``, tiles of the longest part.
            num_seqs: ``[num_lengths]``, sequences that have so many tiles.

        Returns:
            ``[num_ways]``, in microseconds. Only differences mean something.
        """
        parts = np.maximum(-(-tiles // part_tiles[:, None]), 1)
        programs = (parts * num_seqs).sum(axis=1) * self.programs_per_item
        total_bytes = float((tiles * num_seqs).sum() * self.programs_per_item * self.tile_bytes)
        longest_bytes = np.minimum(part_tiles, tiles.max()) * self.tile_bytes
        mean_bytes = total_bytes / programs
        share = np.minimum(self.program_bytes_per_us, self.device_bytes_per_us / np.minimum(programs, self.slots))
        last_bytes = ((programs - 1) % self.slots + 1) * mean_bytes
        last_us = np.maximum(last_bytes / self.device_bytes_per_us, mean_bytes / self.program_bytes_per_us)
        all_us = (total_bytes - last_bytes) / self.device_bytes_per_us + last_us
        merged_parts = np.where(parts > 1, parts * num_seqs, 0).sum(axis=1)
        merged_us = MERGE_US + merged_parts * self.programs_per_item * self.part_bytes / self.device_bytes_per_us
        rounds = -(-programs // self.slots)
        us: NDArray[np.float64] = np.maximum(longest_bytes / share, all_us) + STARTUP_US * rounds
        return us + np.where(merged_parts > 0, merged_us, 0.0)

    def choose_part_tiles(self, tiles: NDArray[np.int64]) -> int:
        """Return the tiles of the longest part in the cheapest way to cut a batch.

        Sequences stay whole unless cutting them saves more than the estimates are worth.

        Args:
            tiles: ``[num_seqs]``, tiles of each sequence.
        """
        longest = max(int(tiles.max()), 1)
        splits = np.arange(1, min(longest, _FEW_SPLITS) + 1)
        if longest > _FEW_SPLITS:
            steps = np.geomspace(_FEW_SPLITS, longest, 1 + int(np.ceil(np.log(longest / _FEW_SPLITS) / np.log(1.25))))
            splits = np.concatenate((splits, steps[1:].astype(np.int64)))
        ways = np.unique(-(-longest // splits))[::-1]
        by_tiles = np.bincount(tiles)
        lengths = np.flatnonzero(by_tiles)
        us = self.estimate_us(lengths, ways, by_tiles[lengths])
        return longest if us[0] <= _LEAST_GAIN * us.min() else int(ways[np.argmin(us)])

    def fills_one_round(self, num_items: int) -> bool:
        """Return whether all programs run at once, so that their order does not matter."""
        return num_items * self.programs_per_item <= self.slots


@dataclass(frozen=True, kw_only=True)
class WorkList:
    """What the programs of one decode step do.

    Attributes:
        items: int32 ``[num_items, 4]``: sequence, first token, one past the last token, and the
            number of the part, -1 where the item is the whole sequence.
        merged_seqs: int32 ``[num_merged]``, the sequences that have more than one part.
        part_indptr: int32 ``[num_merged + 1]``, where the parts of each of them begin.
    """

    items: NDArray[np.int32]
    merged_seqs: NDArray[np.int32]
    part_indptr: NDArray[np.int32]

    @property
    def num_parts(self) -> int:
        """Partial results of the whole batch."""
        return int(self.part_indptr[-1])

    @property
    def num_splits(self) -> int:
        """Parts of the sequence that has the most, at least 1."""
        return int(np.diff(self.part_indptr).max()) if len(self.merged_seqs) else 1

    def packed(self) -> tuple[NDArray[np.int32], tuple[int, int]]:
        """Return the three arrays in one, and the aligned elements at which the second and the third begin."""
        merged_start = self.items.size
        indptr_start = merged_start + ceil_div(len(self.merged_seqs), _ALIGNMENT) * _ALIGNMENT
        packed = np.zeros(indptr_start + len(self.part_indptr), dtype=np.int32)
        packed[:merged_start] = self.items.reshape(-1)
        packed[merged_start : merged_start + len(self.merged_seqs)] = self.merged_seqs
        packed[indptr_start:] = self.part_indptr
        return packed, (merged_start, indptr_start)


def build_query_tiles(
    num_queries: Sequence[int], seq_lens: NDArray[np.int32], group_size: int, block_rows: int
) -> NDArray[np.int32]:
    """List the tiles of query rows of a prefill step, those that see the most tokens first.

    A row is a query token and one query head of a KV head.

    Args:
        num_queries: query tokens of each sequence, its newest.
        seq_lens: int32 ``[num_seqs]``, the query tokens included.
        group_size: query heads per KV head.
        block_rows: rows per tile.

    Returns:
        int32 ``[num_tiles, 2]``: sequence, and first row.

    >>> build_query_tiles([2, 1], np.array([2, 9], dtype=np.int32), group_size=4, block_rows=4).tolist()
    [[1, 0], [0, 4], [0, 0]]
    """
    queries = np.asarray(num_queries, dtype=np.int64)
    tiles = -(-queries * group_size // block_rows)
    seq = np.repeat(np.arange(len(queries)), tiles)
    first_row = (np.arange(len(seq)) - np.repeat(np.cumsum(tiles) - tiles, tiles)) * block_rows
    last_query = np.minimum((first_row + block_rows - 1) // group_size, queries[seq] - 1)
    seen = seq_lens[seq] - queries[seq] + last_query
    return np.stack((seq, first_row), axis=1)[np.argsort(-seen, kind="stable")].astype(np.int32)


def build_work_list(tokens: Tokens, part_tiles: int, shared_parts: int = 0) -> WorkList:
    """Cut every sequence into parts of almost equal length and list them, the longest first.

    A sequence of ``n`` tiles has ``ceil(n / part_tiles)`` parts, whose lengths differ by one tile at
    most. An empty sequence has one item without tokens, so that its output is written, too.

    Args:
        tokens: what each sequence reads.
        part_tiles: tiles of the longest part.
        shared_parts: parts of a prefix that all sequences share. They come first among the parts of
            each sequence, and are not in the list.
    """
    num_seqs = len(tokens.tiles)
    parts = np.maximum(-(-tokens.tiles // part_tiles), 1)
    seq = np.repeat(np.arange(num_seqs), parts)
    ordinal = np.arange(len(seq)) - np.repeat(np.cumsum(parts) - parts, parts)
    tiles, count, first = tokens.tiles[seq], parts[seq], tokens.first[seq]
    start = first + ordinal * tiles // count * tokens.block_tokens
    stop = np.minimum(first + (ordinal + 1) * tiles // count * tokens.block_tokens, tokens.lens[seq])
    all_parts = parts + shared_parts
    merged_seqs = np.flatnonzero(all_parts > 1)
    part_indptr = np.concatenate(([0], np.cumsum(all_parts[merged_seqs])))
    first_part = np.full(num_seqs, _WHOLE)
    first_part[merged_seqs] = part_indptr[:-1] + shared_parts
    number = np.where(all_parts[seq] > 1, first_part[seq] + ordinal, _WHOLE)
    items = np.stack((seq, start, stop, number), axis=1)[np.argsort(start - stop, kind="stable")]
    return WorkList(
        items=items.astype(np.int32), merged_seqs=merged_seqs.astype(np.int32), part_indptr=part_indptr.astype(np.int32)
    )
