"""PyTorch's flex_attention, eager or compiled, for the two caches that use it."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from impls.interface import Unsupported
from impls.spec import ceil_div

Sees = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


class Blocks(NamedTuple):
    """Blocks of slots, by sequence.

    Attributes:
        indices: int32 ``[num_seqs, max_blocks]``, in any order. The first ``counts`` entries of a row are used.
        counts: int32 ``[num_seqs]``, number of blocks of each sequence.
    """

    indices: Tensor
    counts: Tensor


class Flex:
    """Attention of one query per sequence over K and V of any slots.

    Args:
        compiled: whether ``torch.compile`` creates a kernel. Otherwise torch computes and masks the scores of all
            slots, which is correct but slow.

    Raises:
        Unsupported: this torch has no flex_attention.
    """

    def __init__(self, *, compiled: bool) -> None:
        try:
            from torch.nn.attention.flex_attention import BlockMask, flex_attention
        except ImportError as error:
            raise Unsupported(f"flex_attention is not in torch {torch.__version__}; install a newer torch") from error
        self._from_blocks = BlockMask.from_kv_blocks
        attention: Callable[..., Any] = flex_attention
        self._attention = torch.compile(attention) if compiled else attention
        self.description = f"torch {torch.__version__}, {'compiled' if compiled else 'eager'}"

    def block_mask(self, full: Blocks, partial: Blocks, *, block_size: int, num_slots: int, sees: Sees) -> Any:
        """Return the block mask: the blocks of slots that each sequence reads.

        Args:
            full: blocks of which the sequence sees all slots.
            partial: blocks of which the sequence sees the slots for which ``sees`` returns true.
            block_size: slots per block.
            num_slots: slots of the whole storage.
            sees: function of sequence, head, query and slot that returns whether the query sees the slot.
        """
        num_blocks = ceil_div(num_slots, block_size)
        (full_indices, full_counts), (indices, counts) = (_padded(one, num_blocks) for one in (full, partial))
        return self._from_blocks(
            counts,
            indices,
            full_counts,
            full_indices,
            BLOCK_SIZE=(1, block_size),
            mask_mod=sees,
            seq_lengths=(1, num_slots),
            compute_q_blocks=False,
        )

    def attend(self, query: Tensor, keys: Tensor, values: Tensor, block_mask: Any) -> Tensor:
        """Return attention over the slots of a storage.

        Args:
            query: ``[num_seqs, num_query_heads, head_dim]``.
            keys: ``[num_slots, num_kv_heads, head_dim]``.
            values: same shape as ``keys``.
            block_mask: result of ``block_mask``.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch recommends compiling, and warns about its own internals
            out: Tensor = self._attention(
                query[:, :, None],
                keys.transpose(0, 1)[None],
                values.transpose(0, 1)[None],
                block_mask=block_mask,
                enable_gqa=query.shape[1] != keys.shape[1],
            )
        return out[:, :, 0]


def _padded(blocks: Blocks, num_blocks: int) -> tuple[Tensor, Tensor]:
    """Return int32 ``[num_seqs, 1, 1, num_blocks]`` and ``[num_seqs, 1, 1]``, the form that a block mask requires."""
    num_seqs, max_blocks = blocks.indices.shape
    padded = torch.zeros((num_seqs, 1, 1, num_blocks), dtype=torch.int32, device=blocks.indices.device)
    padded[:, 0, 0, :max_blocks] = blocks.indices
    return padded, blocks.counts.view(num_seqs, 1, 1)


def mask_bytes(block_mask: Any) -> int:
    """Return the device bytes of the tensors of a block mask."""
    names = ("kv_num_blocks", "kv_indices", "full_kv_num_blocks", "full_kv_indices")
    return sum(getattr(block_mask, name).nbytes for name in names)
