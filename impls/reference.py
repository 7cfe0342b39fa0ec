"""What attention is: plain torch in float32, with which every implementation is compared."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

import torch
from torch import Tensor

ALLOWED_FACTOR: Final = 3
"""How much worse than plain arithmetic of the same precision an implementation may be."""


def decode_attention(
    query: Tensor,
    keys: Sequence[Tensor],
    values: Sequence[Tensor],
    *,
    window: int | None = None,
    soft_cap: float | None = None,
) -> Tensor:
    """softmax(q kᵀ / √head_dim) v of one new token per sequence, in float32.

    Args:
        query: ``[num_seqs, num_query_heads, head_dim]``, any floating dtype.
        keys: per sequence ``[seq_len, num_kv_heads, head_dim]``; query head h reads KV head
            h // (num_query_heads / num_kv_heads).
        values: as ``keys``.
        window: newest tokens that a query sees, its own included; all if ``None``.
        soft_cap: scores become ``soft_cap * tanh(score / soft_cap)``; they stay if ``None``.

    Returns:
        ``[num_seqs, num_query_heads, head_dim]``, float32.

    Raises:
        ValueError: there is not one K and one V of the same length for each query.
    """
    return prefill_attention(query.split(1), keys, values, window=window, soft_cap=soft_cap)


def prefill_attention(
    queries: Sequence[Tensor],
    keys: Sequence[Tensor],
    values: Sequence[Tensor],
    *,
    window: int | None = None,
    soft_cap: float | None = None,
) -> Tensor:
    """Causal attention of each sequence's newest tokens, in float32: the last query sees all tokens.

    Args:
        queries: per sequence ``[num_queries, num_query_heads, head_dim]``, of its newest tokens.
        keys: as for ``decode_attention``.
        values: as ``keys``.
        window: as for ``decode_attention``.
        soft_cap: as for ``decode_attention``.

    Returns:
        ``[all queries, num_query_heads, head_dim]``, float32, one sequence after another.

    Raises:
        ValueError: there is not one K and one V of the same length for each sequence.
    """
    return _attention(queries, keys, values, _Arithmetic(torch.float32, torch.float32, window, soft_cap))


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


def allowed_error(
    query: Tensor | Sequence[Tensor],
    keys: Sequence[Tensor],
    values: Sequence[Tensor],
    reference: Tensor,
    *,
    window: int | None = None,
    soft_cap: float | None = None,
) -> float:
    """How large ``max_rel_error`` may be for correct arithmetic in the dtype of ``query``.

    Three times the error of the same mathematics in that precision. In float16 and bfloat16, as
    tensor cores do it: sums in float32, the weights and the result rounded. In float32 every step
    rounds, so ``reference`` itself is that mathematics, and its error is taken against float64.
    The data decide, so there is no tolerance to choose, but for results that happen to be exact
    (a single token): there half an epsilon for each rounding is granted.

    Args:
        query: as given to ``decode_attention`` or ``prefill_attention``.
        keys: as given to it.
        values: as given to it.
        reference: what it returned.
        window: as given to it.
        soft_cap: as given to it.
    """
    queries = query.split(1) if isinstance(query, Tensor) else query
    dtype = queries[0].dtype
    if dtype == torch.float32:
        roundings = 8  # products, their sum, scale, exponential, total, division, weighted sum, merging of parts
        exact = _attention(queries, keys, values, _Arithmetic(torch.float64, torch.float64, window, soft_cap))
        error = max_rel_error(reference, exact)
    else:
        roundings = 2  # weights, result
        rounded = _attention(queries, keys, values, _Arithmetic(torch.float32, dtype, window, soft_cap))
        error = max_rel_error(rounded, reference)
    return max(ALLOWED_FACTOR * error, roundings * torch.finfo(dtype).eps / 2)


class _Arithmetic(NamedTuple):
    """Attention computed in ``dtype``, with the weights and the result rounded to ``stored``."""

    dtype: torch.dtype
    stored: torch.dtype
    window: int | None
    soft_cap: float | None


def _attention(queries: Sequence[Tensor], keys: Sequence[Tensor], values: Sequence[Tensor], how: _Arithmetic) -> Tensor:
    if not len(queries) == len(keys) == len(values):
        raise ValueError(f"{len(queries)} queries need as many K and V, not {len(keys)} and {len(values)}")
    outs = []
    for index, (query, key, value) in enumerate(zip(queries, keys, values, strict=True)):
        if key.shape != value.shape:
            raise ValueError(f"sequence {index}: K has shape {tuple(key.shape)}, V {tuple(value.shape)}")
        weights = _weights(query.to(how.dtype), key.to(how.dtype), how).to(how.stored).to(how.dtype)
        out = torch.einsum("hgqt,thd->qhgd", weights, value.to(how.dtype))
        outs.append(out.reshape(query.shape).to(how.stored))
    return torch.cat(outs)


def _weights(query: Tensor, key: Tensor, how: _Arithmetic) -> Tensor:
    """Softmax of the scores of one sequence, ``[num_kv_heads, group_size, num_queries, seq_len]``."""
    num_queries, seq_len = len(query), len(key)
    num_kv_heads, head_dim = key.shape[1:]
    groups = query.view(num_queries, num_kv_heads, -1, head_dim)  # heads that share a KV head are neighbours
    scores = torch.einsum("qhgd,thd->hgqt", groups, key) / math.sqrt(head_dim)
    if how.soft_cap is not None:
        scores = how.soft_cap * torch.tanh(scores / how.soft_cap)
    newest = torch.arange(seq_len - num_queries, seq_len, device=key.device)[:, None]
    tokens = torch.arange(seq_len, device=key.device)
    hidden = tokens > newest
    if how.window is not None:
        hidden |= tokens <= newest - how.window
    return torch.softmax(scores.masked_fill(hidden, -math.inf), dim=-1)
