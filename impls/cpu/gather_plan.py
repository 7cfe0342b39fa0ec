"""The plan for reading the chunks of a batch: in place where their slots are adjacent, otherwise by a gather."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from impls.cpu.token_chunks import ChunkGroup, chunks_of_seqs


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A group of chunks on the device (see ``ChunkGroup``).

    Attributes:
        slots: rows of the storage, int32 ``[num_chunks * width]``, or a slice if they are adjacent.
        num_chunks: number of chunks in the group.
        width: tokens of its longest chunk.
        mask: ``[num_chunks, 1, 1, width]``, -inf past the end of a chunk. ``None`` if all chunks are equally long.
    """

    slots: Tensor | slice
    num_chunks: int
    width: int
    mask: Tensor | None

    @property
    def num_slots(self) -> int:
        """Number of rows of the storage that are read."""
        return self.num_chunks * self.width

    @property
    def nbytes(self) -> int:
        """Device bytes of the tensors."""
        return sum(tensor.nbytes for tensor in (self.slots, self.mask) if isinstance(tensor, Tensor))

    def read(self, storage: Tensor, buffer: Tensor | None = None) -> Tensor:
        """Return K or V of the group.

        Args:
            storage: ``[num_slots, num_kv_heads, head_dim]``.
            buffer: memory that a gather overwrites, ``[at least num_slots, num_kv_heads, head_dim]``. ``None`` for
                a new tensor.

        Returns:
            ``[num_chunks, width, num_kv_heads, head_dim]``.
        """
        if isinstance(self.slots, slice):
            rows = storage[self.slots]
        elif buffer is None:
            rows = storage.index_select(0, self.slots)
        else:
            rows = torch.index_select(storage, 0, self.slots, out=buffer[: self.num_slots])
        return rows.view(self.num_chunks, self.width, *storage.shape[1:])


@dataclass(frozen=True, kw_only=True)
class GatherPlan:
    """The plan for computing a batch.

    Attributes:
        pieces: the groups of chunks. Each takes one call of attention.
        seqs: int64 ``[num_chunks]``, the batch row of each chunk, over all pieces.
        chunks: int64 ``[num_seqs, max_chunks_per_seq]``, the chunks of each sequence, filled up with ``num_chunks``.
    """

    pieces: Sequence[Piece]
    seqs: Tensor
    chunks: Tensor

    @property
    def nbytes(self) -> int:
        """Device bytes of the tensors."""
        return sum(piece.nbytes for piece in self.pieces) + self.seqs.nbytes + self.chunks.nbytes

    @property
    def gathered_slots(self) -> int:
        """Largest number of rows that one piece gathers."""
        return max((piece.num_slots for piece in self.pieces if isinstance(piece.slots, Tensor)), default=0)

    @property
    def in_place_ratio(self) -> float:
        """Fraction of the rows that are read without a gather."""
        in_place = sum(piece.num_slots for piece in self.pieces if isinstance(piece.slots, slice))
        return in_place / sum(piece.num_slots for piece in self.pieces)


def make_plan(
    groups: Sequence[ChunkGroup], num_seqs: int, dtype: torch.dtype, device: torch.device, *, in_place: bool = True
) -> GatherPlan:
    """Return the plan of a batch, with its chunks copied to the device.

    Args:
        groups: result of ``token_chunks.cut``.
        num_seqs: rows of the batch.
        dtype: dtype of the masks, equal to that of the scores that they are added to.
        device: device that computes attention.
        in_place: whether adjacent slots become a slice. Otherwise all slots are listed.
    """
    return GatherPlan(
        pieces=[_piece(group, dtype, device, in_place) for group in groups],
        seqs=torch.from_numpy(np.concatenate([group.seqs for group in groups])).to(device),
        chunks=torch.from_numpy(chunks_of_seqs(groups, num_seqs)).to(device),
    )


def _piece(group: ChunkGroup, dtype: torch.dtype, device: torch.device, in_place: bool) -> Piece:
    num_chunks, width = group.slots.shape
    slots: Tensor | slice
    if in_place and group.is_consecutive:
        first = int(group.slots[0, 0])
        slots = slice(first, first + group.slots.size)
    else:
        slots = torch.from_numpy(group.slots.reshape(-1)).to(device)
    mask = None
    if group.is_ragged:
        is_padding = torch.from_numpy(np.arange(width) >= group.lens[:, None])
        mask = torch.zeros(is_padding.shape, dtype=dtype).masked_fill_(is_padding, -torch.inf)
        mask = mask[:, None, None].to(device)
    return Piece(slots=slots, num_chunks=num_chunks, width=width, mask=mask)
