"""PyTorch's flex_attention, eager or compiled, for two caches."""

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
        indices: int32 ``[num_seqs, most blocks]``, in any order. ``counts`` gives how many.
        counts: int32 ``[num_seqs]``.
    """

    indices: Tensor
    counts: Tensor


class Flex:
    """Attention of one query per sequence over K and V of any slots.

    Args:
        compiled: whether ``torch.compile`` makes a kernel. Otherwise torch computes and masks the
            scores of every slot, which is slow and serves as a definition.

    Raises:
        Unsupported: this torch has no flex_attention.
    """

    def __init__(self, *, compiled: bool) -> None:
        try:
            from torch.nn.attention.flex_attention import BlockMask, flex_attention
        except ImportError as error:
            raise Unsupported(f"this torch has no flex_attention: {torch.__version__}") from error
        self._from_blocks = BlockMask.from_kv_blocks
        attention: Callable[..., Any] = flex_attention
        self._attention = torch.compile(attention) if compiled else attention
        self.description = f"torch {torch.__version__}, {'compiled' if compiled else 'eager'}"

    def block_mask(self, full: Blocks, partial: Blocks, *, block_size: int, num_slots: int, sees: Sees) -> Any:
        """Return the blocks of slots that each sequence reads.

        Args:
            full: blocks of which every slot is visible.
            partial: blocks whose slots are checked by ``sees``.
            block_size: slots per block.
            num_slots: slots of the whole storage.
            sees: returns whether a slot is visible to sequence, head and query.
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
        """Return attention over adjacent slots.

        Args:
            query: ``[num_seqs, num_query_heads, head_dim]``.
            keys: ``[num_slots, num_kv_heads, head_dim]``.
            values: as ``keys``.
            block_mask: result of ``block_mask``.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch advises compiling, and warns about its own internals
            out: Tensor = self._attention(
                query[:, :, None],
                keys.transpose(0, 1)[None],
                values.transpose(0, 1)[None],
                block_mask=block_mask,
                enable_gqa=query.shape[1] != keys.shape[1],
            )
        return out[:, :, 0]


def _padded(blocks: Blocks, num_blocks: int) -> tuple[Tensor, Tensor]:
    """Return int32 ``[num_seqs, 1, 1, num_blocks]`` and ``[num_seqs, 1, 1]``, the format of a block mask."""
    num_seqs, most = blocks.indices.shape
    padded = torch.zeros((num_seqs, 1, 1, num_blocks), dtype=torch.int32, device=blocks.indices.device)
    padded[:, 0, 0, :most] = blocks.indices
    return padded, blocks.counts.view(num_seqs, 1, 1)


def mask_bytes(block_mask: Any) -> int:
    """Device bytes of a block mask's tensors."""
    names = ("kv_num_blocks", "kv_indices", "full_kv_num_blocks", "full_kv_indices")
    return sum(getattr(block_mask, name).nbytes for name in names)
