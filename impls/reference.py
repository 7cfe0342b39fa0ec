"""The definition of attention in plain torch and float32. Every implementation is compared with it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

import torch
from torch import Tensor

ALLOWED_FACTOR: Final = 3
"""Factor by which an error may exceed the error of plain arithmetic in the same precision."""


def decode_attention(
    query: Tensor,
    keys: Sequence[Tensor],
    values: Sequence[Tensor],
    *,
    window: int | None = None,
    soft_cap: float | None = None,
    sinks: Tensor | None = None,
    slopes: Tensor | None = None,
) -> Tensor:
    """Return softmax(q kᵀ / √head_dim) v of one new token per sequence, in float32. It is zero without tokens.

    Args:
        query: ``[num_seqs, num_query_heads, head_dim]``, any floating dtype.
        keys: per sequence ``[seq_len, num_kv_heads, head_dim]``. Query head h reads KV head
            h // (num_query_heads / num_kv_heads).
        values: same shapes as ``keys``.
        window: number of newest tokens that a query sees, including its own. All tokens if ``None``.
        soft_cap: scores become ``soft_cap * tanh(score / soft_cap)``. Unchanged if ``None``.
        sinks: ``[num_query_heads]``, logits that are part of the softmax and have no value, or ``None``.
        slopes: ``[num_query_heads]``. ``slope * (key position - query position)`` is added to each score after the
            soft cap (ALiBi). Nothing is added if ``None``.

    Returns:
        ``[num_seqs, num_query_heads, head_dim]``, float32.

    Raises:
        ValueError: there is not one K and one V of the same length for each query.
    """
    return prefill_attention(query.split(1), keys, values, window=window, soft_cap=soft_cap, sinks=sinks, slopes=slopes)


def decode_lse(
    query: Tensor,
    keys: Sequence[Tensor],
    *,
    window: int | None = None,
    soft_cap: float | None = None,
    sinks: Tensor | None = None,
    slopes: Tensor | None = None,
) -> Tensor:
    """Return the natural logarithm of the softmax denominators of ``decode_attention``, in float32.

    Args:
        query: as for ``decode_attention``.
        keys: as for ``decode_attention``.
        window: as for ``decode_attention``.
        soft_cap: as for ``decode_attention``.
        sinks: as for ``decode_attention``.
        slopes: as for ``decode_attention``.

    Returns:
        ``[num_seqs, num_query_heads]``, -inf without tokens and sinks.
    """
    how = _Arithmetic(torch.float32, torch.float32, window, soft_cap, sinks, slopes)
    logits = [_logits(one.float(), key.float(), how, None) for one, key in zip(query.split(1), keys, strict=True)]
    return torch.stack([torch.logsumexp(one, dim=-1).reshape(-1) for one in logits])


def prefill_attention(
    queries: Sequence[Tensor],
    keys: Sequence[Tensor],
    values: Sequence[Tensor],
    *,
    window: int | None = None,
    soft_cap: float | None = None,
    sinks: Tensor | None = None,
    slopes: Tensor | None = None,
    trees: Sequence[Tensor] | None = None,
) -> Tensor:
    """Return the causal attention of the newest tokens of each sequence, in float32. The last query sees all tokens.

    Args:
        queries: per sequence ``[num_queries, num_query_heads, head_dim]``, the queries of its newest tokens.
        keys: as for ``decode_attention``.
        values: same shapes as ``keys``.
        window: as for ``decode_attention``.
        soft_cap: as for ``decode_attention``.
        sinks: as for ``decode_attention``.
        slopes: as for ``decode_attention``.
        trees: per sequence bool ``[num_queries, num_queries]``, the query tokens that each query sees. All queries see
            the tokens before the query tokens. Causal if ``None``.

    Returns:
        ``[all queries, num_query_heads, head_dim]``, float32, one sequence after another.

    Raises:
        ValueError: there is not one K and one V of the same length for each sequence.
    """
    how = _Arithmetic(torch.float32, torch.float32, window, soft_cap, sinks, slopes)
    return _attention(queries, keys, values, how, trees)


def max_rel_error(out: Tensor, reference: Tensor) -> float:
    """Return the largest ‖out - reference‖₂ / ‖reference‖₂ over sequences and query heads.

    Args:
        out: ``[num_seqs, num_query_heads, head_dim]``.
        reference: same shape as ``out``.

    Returns:
        The error. It is infinite if any element of ``out`` is NaN or infinite, and 0 for an empty batch.

    Raises:
        ValueError: the shapes differ.
    """
    if out.shape != reference.shape:
        raise ValueError(f"out has shape {tuple(out.shape)}, but the reference has shape {tuple(reference.shape)}")
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
    sinks: Tensor | None = None,
    slopes: Tensor | None = None,
    trees: Sequence[Tensor] | None = None,
) -> float:
    """Return the largest ``max_rel_error`` that correct arithmetic in the dtype of ``query`` may have.

    This is three times the error of the same mathematics in that precision. In float16 and bfloat16 it is computed as
    tensor cores do: sums in float32, with rounded weights and a rounded result. In float32 every step rounds, so
    ``reference`` itself is that mathematics, and its error is measured against float64. The tolerance therefore
    follows from the data. A result may happen to be exact, for example with a single token. The tolerance then is half
    an epsilon for each rounding.

    Args:
        query: argument of ``decode_attention`` or ``prefill_attention``.
        keys: its argument.
        values: its argument.
        reference: its result.
        window: its argument.
        soft_cap: its argument.
        sinks: its argument.
        slopes: its argument.
        trees: its argument.
    """
    queries = query.split(1) if isinstance(query, Tensor) else query
    dtype = queries[0].dtype
    if dtype == torch.float32:
        roundings = 8  # products, their sum, scale, exponential, total, division, weighted sum, merging of parts
        wide = _Arithmetic(torch.float64, torch.float64, window, soft_cap, sinks, slopes)
        exact = _attention(queries, keys, values, wide, trees)
        error = max_rel_error(reference, exact)
    else:
        roundings = 2  # weights, result
        narrow = _Arithmetic(torch.float32, dtype, window, soft_cap, sinks, slopes)
        rounded = _attention(queries, keys, values, narrow, trees)
        error = max_rel_error(rounded, reference)
    return max(ALLOWED_FACTOR * error, roundings * torch.finfo(dtype).eps / 2)


class _Arithmetic(NamedTuple):
    """Attention computed in ``dtype``, with the weights and the result rounded to ``stored``."""

    dtype: torch.dtype
    stored: torch.dtype
    window: int | None
    soft_cap: float | None
    sinks: Tensor | None
    slopes: Tensor | None


def _attention(
    queries: Sequence[Tensor],
    keys: Sequence[Tensor],
    values: Sequence[Tensor],
    how: _Arithmetic,
    trees: Sequence[Tensor] | None,
) -> Tensor:
    if not len(queries) == len(keys) == len(values):
        raise ValueError(f"{len(queries)} queries need as many K and V (got {len(keys)} and {len(values)})")
    outs = []
    for index, (query, key, value) in enumerate(zip(queries, keys, values, strict=True)):
        if key.shape != value.shape:
            raise ValueError(f"sequence {index}: K has shape {tuple(key.shape)}, but V has shape {tuple(value.shape)}")
        tree = None if trees is None else trees[index]
        weights = _weights(query.to(how.dtype), key.to(how.dtype), how, tree).to(how.stored).to(how.dtype)
        out = torch.einsum("hgqt,thd->qhgd", weights, value.to(how.dtype))
        outs.append(out.reshape(query.shape).to(how.stored))
    return torch.cat(outs)


def _weights(query: Tensor, key: Tensor, how: _Arithmetic, tree: Tensor | None) -> Tensor:
    """Return the softmax over the tokens of one sequence, ``[num_kv_heads, group_size, num_queries, seq_len]``."""
    logits = _logits(query, key, how, tree)
    weights = torch.softmax(logits, dim=-1)[..., : len(key)]
    sees_nothing = torch.isneginf(logits).all(dim=-1, keepdim=True)
    return weights.masked_fill(sees_nothing, 0.0)


def _logits(query: Tensor, key: Tensor, how: _Arithmetic, tree: Tensor | None) -> Tensor:
    """Return scores with -inf for hidden tokens, and the sink as a last column where there are sinks."""
    num_queries, seq_len = len(query), len(key)
    num_kv_heads, head_dim = key.shape[1:]
    groups = query.view(num_queries, num_kv_heads, -1, head_dim)  # heads that share a KV head are neighbours
    scores = torch.einsum("qhgd,thd->hgqt", groups, key) / math.sqrt(head_dim)
    if how.soft_cap is not None:
        scores = how.soft_cap * torch.tanh(scores / how.soft_cap)
    newest = torch.arange(seq_len - num_queries, seq_len, device=key.device)[:, None]
    tokens = torch.arange(seq_len, device=key.device)
    if how.slopes is not None:
        scores = scores + how.slopes.to(scores).view(num_kv_heads, -1, 1, 1) * (tokens - newest)
    hidden = tokens > newest
    if tree is not None:
        hidden = torch.cat((hidden.new_zeros(num_queries, seq_len - num_queries), ~tree.to(key.device)), dim=1)
    if how.window is not None:
        hidden |= tokens <= newest - how.window
    scores = scores.masked_fill(hidden, -math.inf)
    if how.sinks is None:
        return scores
    sinks = how.sinks.to(scores).view(num_kv_heads, -1, 1, 1).expand(-1, -1, num_queries, 1)
    return torch.cat((scores, sinks), dim=-1)
