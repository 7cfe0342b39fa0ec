"""Attention over chunks of tokens as one loop, compiled by torch, that reads K and V in place.

A gather writes K and V once more before attention reads them. The compiled loop contains the look-up of each token's
slot, so that a step reads as many bytes as with contiguous memory.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def attend_chunks(
    rows: Tensor, keys: Tensor, values: Tensor, slots: Tensor, mask: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return attention over each chunk and its log-sum-exp. Without compilation this copies K and V several times.

    Args:
        rows: ``[num_chunks, num_kv_heads, group_size, head_dim]``, the query of the sequence of each chunk.
        keys: ``[num_slots, num_kv_heads, head_dim]``.
        values: same shape as ``keys``.
        slots: int32 ``[num_chunks * width]``, the slot of each token. Past the end of a chunk these are
            any slots with finite data.
        mask: ``[num_chunks, 1, 1, width]``, added to the scores, or ``None``.

    Returns:
        The result, float32 in the shape of ``rows``, and the log-sum-exp of the scaled scores,
            ``[num_chunks, num_kv_heads, group_size]``.
    """
    slots = slots.view(len(rows), -1)  # [num_chunks, width]
    scores = (rows[:, None].float() * keys[slots][:, :, :, None].float()).sum(dim=-1) / math.sqrt(rows.shape[-1])
    if mask is not None:
        scores = scores + mask[:, 0, 0, :, None, None].float()
    largest = scores.amax(dim=1, keepdim=True)  # scores: [num_chunks, width, num_kv_heads, group_size]
    weights = torch.exp(scores - largest)
    total = weights.sum(dim=1)
    outs = (weights[..., None] * values[slots][:, :, :, None].float()).sum(dim=1) / total[..., None]
    return outs, largest[:, 0] + total.log()


class FusedChunks:
    """``attend_chunks``, compiled at its first call, for any number of chunks."""

    def __init__(self) -> None:
        self._attend = torch.compile(attend_chunks)

    def __call__(
        self, rows: Tensor, keys: Tensor, values: Tensor, slots: Tensor, mask: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Return the result of ``attend_chunks``.

        Raises:
            RuntimeError: compilation fails, for example because there is no C++ compiler.
        """
        for tensor in (rows, slots, mask):
            if tensor is not None:
                torch._dynamo.maybe_mark_dynamic(tensor, 0)
        outs, lses = self._attend(rows, keys, values, slots, mask)
        return outs, lses
