"""The metadata of one decode step on the device, as every paged implementation uses it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from impls.spec import ceil_div
from impls.storage.page_table import PageTable

_ALIGNMENT_BYTES = 16  # alignment that kernels may assume for every tensor


@dataclass(frozen=True, kw_only=True)
class PagedBatch:
    """Metadata of one decode step (``impls.interface.Batch``).

    Attributes:
        page_table: int32 ``[num_seqs, max_pages_per_seq]``, -1 past a sequence's last page.
        seq_lens: int32 ``[num_seqs]``, tokens per sequence, including the newest.
        slot_mapping: int64 ``[num_seqs]``, the slot of each sequence's newest token.
        host: the same data in NumPy, so that reading it needs no transfer from the device.
    """

    page_table: Tensor
    seq_lens: Tensor
    slot_mapping: Tensor
    host: PageTable

    @property
    def metadata_bytes(self) -> int:
        """Device bytes of the three tensors."""
        return self.page_table.nbytes + self.seq_lens.nbytes + self.slot_mapping.nbytes


@dataclass(kw_only=True)
class PageTableBatch:
    """Base of a batch with a page table. An implementation adds its own fields.

    Attributes:
        paged: page table, lengths and slot mapping.
    """

    paged: PagedBatch

    @property
    def slot_mapping(self) -> Tensor:
        """int64 ``[num_seqs]``, the slot of each sequence's newest token."""
        return self.paged.slot_mapping

    @property
    def seq_lens(self) -> Tensor:
        """int32 ``[num_seqs]``, tokens per sequence, including the newest."""
        return self.paged.seq_lens


def to_device(host: PageTable, device: torch.device) -> PagedBatch:
    """Copy a page table to the device. All three tensors take one transfer."""
    packed, starts = _pack((host.page_table, host.seq_lens, host.slot_mapping))
    moved = torch.from_numpy(packed).to(device)

    def tensor(start: int, array: NDArray[Any], dtype: torch.dtype) -> Tensor:
        return moved[start : start + array.nbytes].view(dtype).view(array.shape)

    return PagedBatch(
        page_table=tensor(starts[0], host.page_table, torch.int32),
        seq_lens=tensor(starts[1], host.seq_lens, torch.int32),
        slot_mapping=tensor(starts[2], host.slot_mapping, torch.int64),
        host=host,
    )


def _pack(arrays: Sequence[NDArray[Any]]) -> tuple[NDArray[np.uint8], list[int]]:
    """Return all arrays in one buffer, and the aligned byte where each starts."""
    sizes = [ceil_div(array.nbytes, _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES for array in arrays]
    starts = [0, *accumulate(sizes)]
    packed = np.empty(starts[-1], dtype=np.uint8)
    for start, array in zip(starts, arrays, strict=False):
        packed[start : start + array.nbytes] = array.reshape(-1).view(np.uint8)
    return packed, starts
