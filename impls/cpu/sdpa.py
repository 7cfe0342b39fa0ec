"""Call torch's scaled dot product attention by named back-end, for one new token per sequence or a prompt.

The query heads that share a KV head become the query *length*. This needs no copy of K and V per query
head, and no ``enable_gqa``, which on a CPU was 2 to 8 times slower.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from impls.spec import ModelSpec

BACKENDS: Final = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
}
"""Back-ends by the name in rows. The math back-end is left out, because it writes the scores to memory."""


def backends_on(device: torch.device) -> tuple[str, ...]:
    """Candidate back-ends of a device. The first supports every dtype, and a mask."""
    return ("flash",) if device.type == "cpu" else ("efficient", "flash", "cudnn")


def row_counts(model: ModelSpec, device: torch.device) -> tuple[int, ...]:
    """Return candidate numbers of query rows per KV head.

    A single row is a matrix-vector product, for which torch's bfloat16 path on a CPU is slow.
    Computing the same row twice took 0.4 of the time. In float32 it took longer.
    """
    if model.group_size == 1 and model.dtype == "bfloat16" and device.type == "cpu":
        return (1, 2)
    return (model.group_size,)


def as_rows(query: Tensor, num_kv_heads: int, num_rows: int) -> Tensor:
    """View queries by KV head.

    Args:
        query: ``[num_seqs, num_query_heads, head_dim]``.
        num_kv_heads: KV heads.
        num_rows: the group size, or 2 if the group size is 1 (the row twice).

    Returns:
        ``[num_seqs, num_kv_heads, num_rows, head_dim]``.
    """
    rows = query.view(query.shape[0], num_kv_heads, -1, query.shape[-1])
    return rows.expand(-1, -1, max(num_rows, rows.shape[2]), -1)


def only(backend: str) -> AbstractContextManager[object]:
    """Make ``attend`` use this key of ``BACKENDS``, or raise, in every thread of the process."""
    return sdpa_kernel(BACKENDS[backend])


def attend(rows: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
    """Return attention by the back-end that ``only`` allows.

    Args:
        rows: ``[n, num_kv_heads, num_rows, head_dim]``.
        keys: ``[n, num_tokens, num_kv_heads, head_dim]``.
        values: as ``keys``.
        mask: added to the scores, ``[n, 1, 1, num_tokens]``, or ``None``.

    Returns:
        As ``rows``.

    Raises:
        RuntimeError: the back-end cannot do this here.
    """
    return F.scaled_dot_product_attention(rows, keys.transpose(1, 2), values.transpose(1, 2), attn_mask=mask)


def causal_mask(num_queries: int, seq_len: int, dtype: torch.dtype, device: torch.device) -> Tensor | None:
    """Return the causal mask of a sequence's newest tokens, for ``attend_causally``.

    Kernels on a GPU mask without a tensor. On a CPU the mask is a tensor, ``[num_queries, seq_len]``.

    Returns:
        ``None`` if no mask is needed: the query tokens are the whole sequence, or its last token.
    """
    if num_queries in (1, seq_len):
        return None
    if device.type != "cpu":
        # It loads torch's compiler, which takes 2 s and more. Only a process with a prompt on a GPU needs it.
        from torch.nn.attention.bias import causal_lower_right

        lower_right: Tensor = causal_lower_right(num_queries, seq_len)
        return lower_right
    hidden = torch.ones((num_queries, seq_len), dtype=torch.bool).triu(seq_len - num_queries + 1)
    return torch.zeros(hidden.shape, dtype=dtype).masked_fill_(hidden, -torch.inf)


def attend_causally(query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
    """Return causal attention of one sequence's newest tokens by the back-end that ``only`` allows.

    KV heads become the batch, and the query heads of each become its heads, so that K and V are
    neither copied nor repeated.

    Args:
        query: ``[num_queries, num_query_heads, head_dim]``.
        keys: ``[seq_len, num_kv_heads, head_dim]``.
        values: as ``keys``.
        mask: result of ``causal_mask``.

    Returns:
        As ``query``.

    Raises:
        RuntimeError: the back-end cannot do this here.
    """
    num_queries, num_query_heads, head_dim = query.shape
    seq_len, num_kv_heads, _ = keys.shape
    rows = query.view(num_queries, num_kv_heads, -1, head_dim).permute(1, 2, 0, 3)
    shape = (num_kv_heads, num_query_heads // num_kv_heads, seq_len, head_dim)
    keys, values = (tensor.transpose(0, 1)[:, None].expand(shape) for tensor in (keys, values))
    is_whole = num_queries == seq_len
    out = F.scaled_dot_product_attention(rows, keys, values, attn_mask=mask, is_causal=is_whole)
    return out.permute(2, 0, 1, 3).reshape(query.shape)


def attend_with_lse(rows: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return attention on a CPU by the flash back-end, with the log-sum-exp that merging needs.

    ``scaled_dot_product_attention`` computes the log-sum-exp and keeps it for its gradient only, so
    this calls the operator below it.

    Args:
        rows: as for ``attend``.
        keys: as for ``attend``.
        values: as for ``attend``.
        mask: as for ``attend``.

    Returns:
        As ``rows``, and the log-sum-exp of the scaled scores, float32 ``[n, num_kv_heads, num_rows]``.
    """
    operator = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    out, lse = operator(rows, keys.transpose(1, 2), values.transpose(1, 2), attn_mask=mask)
    return out, lse
