"""What decode attention is: plain torch in float32, with which every implementation is compared."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

ALLOWED_FACTOR: Final = 3
"""How much worse than plain arithmetic of the same precision an implementation may be."""


def decode_attention(query: Tensor, keys: Sequence[Tensor], values: Sequence[Tensor]) -> Tensor:
    """softmax(q kᵀ / √head_dim) v of one new token per sequence, in float32.

    Args:
        query: ``[num_seqs, num_query_heads, head_dim]``, any floating dtype.
        keys: per sequence ``[seq_len, num_kv_heads, head_dim]``; query head h reads KV head
            h // (num_query_heads / num_kv_heads).
        values: as ``keys``.

    Returns:
        ``[num_seqs, num_query_heads, head_dim]``, float32.

    Raises:
        ValueError: there is not one K and one V of the same length for each query.
    """
    return _attention(query, keys, values, torch.float32, torch.float32)


def max_rel_error(out: Tensor, reference: Tensor) -> float:
    """The largest ‖out - reference‖₂ / ‖reference‖₂ over sequences and query heads.

    Args:
        out: ``[num_seqs, num_query_heads, head_dim]``.
        reference: as ``out``.

    Returns:
        The error; infinite where any element of ``out`` is NaN or infinite, 0 for an empty batch.

    Raises:
        ValueError: the shapes differ.
    """
    if out.shape != reference.shape:
        raise ValueError(f"out has shape {tuple(out.shape)}, the reference {tuple(reference.shape)}")
    if not bool(torch.isfinite(out).all()):
        return math.inf
    exact = reference.double()
    difference = torch.linalg.vector_norm(out.double() - exact, dim=-1)
    norm = torch.linalg.vector_norm(exact, dim=-1)
    error = torch.where(difference == 0, 0.0, difference / norm)  # 0 / 0 is no error
    return float(error.max()) if error.numel() else 0.0


def allowed_error(query: Tensor, keys: Sequence[Tensor], values: Sequence[Tensor], reference: Tensor) -> float:
    """How large ``max_rel_error`` may be for correct arithmetic in the dtype of ``query``.

    Three times the error of the same mathematics in that precision. In float16 and bfloat16, as
    tensor cores do it: sums in float32, the weights and the result rounded. In float32 every step
    rounds, so ``reference`` itself is that mathematics, and its error is taken against float64.
    The data decide, so there is no tolerance to choose, but for results that happen to be exact
    (a single token): there half an epsilon for each rounding is granted.

    Args:
        query: as given to ``decode_attention``.
        keys: as given to ``decode_attention``.
        values: as given to ``decode_attention``.
        reference: what it returned.
    """
    dtype = query.dtype
    if dtype == torch.float32:
        roundings = 8  # products, their sum, scale, exponential, total, division, weighted sum, merging of parts
        error = max_rel_error(reference, _attention(query, keys, values, torch.float64, torch.float64))
    else:
        roundings = 2  # weights, result
        error = max_rel_error(_attention(query, keys, values, torch.float32, dtype), reference)
    return max(ALLOWED_FACTOR * error, roundings * torch.finfo(dtype).eps / 2)


def _attention(
    query: Tensor, keys: Sequence[Tensor], values: Sequence[Tensor], dtype: torch.dtype, stored: torch.dtype
) -> Tensor:
    """Attention computed in ``dtype``, with the weights and the result rounded to ``stored``."""
    if not len(query) == len(keys) == len(values):
        raise ValueError(f"{len(query)} queries need as many K and V, not {len(keys)} and {len(values)}")
    out = torch.empty(query.shape, dtype=stored, device=query.device)
    for index, (key, value) in enumerate(zip(keys, values, strict=True)):
        if key.shape != value.shape:
            raise ValueError(f"sequence {index}: K has shape {tuple(key.shape)}, V {tuple(value.shape)}")
        weights = _weights(query[index].to(dtype), key.to(dtype)).to(stored).to(dtype)
        out[index] = torch.bmm(weights, value.to(dtype).transpose(0, 1)).view_as(query[index])
    return out


def _weights(query: Tensor, key: Tensor) -> Tensor:
    """Softmax of the scores of one sequence, ``[num_kv_heads, group_size, seq_len]``."""
    num_kv_heads, head_dim = key.shape[1:]
    groups = query.view(num_kv_heads, -1, head_dim)  # query heads that share a KV head are neighbours
    scores = torch.bmm(groups, key.permute(1, 2, 0)) / math.sqrt(head_dim)
    return torch.softmax(scores, dim=-1)
