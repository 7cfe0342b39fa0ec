"""Merging of attention over chunks into attention over whole sequences."""

from __future__ import annotations

import torch
from torch import Tensor


def merge(outs: Tensor, lses: Tensor, chunks: Tensor) -> Tensor:
    """Return attention over whole sequences, merged from attention over their chunks (the reduction of flash-decoding).

    Args:
        outs: ``[num_chunks, num_kv_heads, group_size, head_dim]``.
        lses: log-sum-exp of the scaled scores, float32 ``[num_chunks, num_kv_heads, group_size]``.
        chunks: int64 ``[num_seqs, max_chunks_per_seq]``, filled up with ``num_chunks``.

    Returns:
        ``[num_seqs, num_kv_heads, group_size, head_dim]`` in the dtype of ``outs``.
    """
    if chunks.shape[1] == 1:
        return outs.index_select(0, chunks[:, 0])
    # An additional chunk of weight zero fills up sequences with fewer chunks than the others.
    lses = torch.cat([lses, lses.new_full((1, *lses.shape[1:]), -torch.inf)])
    outs = torch.cat([outs, outs.new_zeros(1, *outs.shape[1:])])
    weights = torch.softmax(lses[chunks], dim=1)  # [num_seqs, max_chunks_per_seq, num_kv_heads, group_size]
    return (outs[chunks] * weights.unsqueeze(-1)).sum(dim=1).to(outs.dtype)
