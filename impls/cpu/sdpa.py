"""torch's scaled dot product attention (SDPA) by named back-end, for one new token per sequence or for a prompt.

The query heads that share a KV head are passed as rows of a longer query. This needs no copy of K and V per query
head, and no ``enable_gqa``, which was 2 to 8 times slower on a CPU.
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
"""Back-ends by the name in the rows. The math back-end is left out because it writes the scores to memory."""


def backends_on(device: torch.device) -> tuple[str, ...]:
    """Return the back-ends to try on a device. The first supports every dtype and a mask."""
    return ("flash",) if device.type == "cpu" else ("efficient", "flash", "cudnn")


def row_counts(model: ModelSpec, device: torch.device) -> tuple[int, ...]:
    """Return the numbers of query rows per KV head to try.

    A single row is a matrix-vector product, which torch computes slowly in bfloat16 on a CPU. Computing the same row
    twice took 0.4 of that time. In float32 it took longer.
    """
    if model.group_size == 1 and model.dtype == "bfloat16" and device.type == "cpu":
        return (1, 2)
    return (model.group_size,)


def as_rows(query: Tensor, num_kv_heads: int, num_rows: int) -> Tensor:
    """Return a view of queries by KV head.

    Args:
        query: ``[num_seqs, num_query_heads, head_dim]``.
        num_kv_heads: KV heads.
        num_rows: the group size, or 2 to repeat the row if the group size is 1.

    Returns:
        ``[num_seqs, num_kv_heads, num_rows, head_dim]``.
    """
    rows = query.view(query.shape[0], num_kv_heads, -1, query.shape[-1])
    return rows.expand(-1, -1, max(num_rows, rows.shape[2]), -1)


def use_backend(backend: str) -> AbstractContextManager[object]:
    """Return a context in which ``attend`` uses this key of ``BACKENDS`` or raises, in all threads of the process."""
    return sdpa_kernel(BACKENDS[backend])


def attend(rows: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
    """Return attention computed by the back-end that ``use_backend`` allows.

    Args:
        rows: ``[n, num_kv_heads, num_rows, head_dim]``.
        keys: ``[n, num_tokens, num_kv_heads, head_dim]``.
        values: same shape as ``keys``.
        mask: ``[n, 1, 1, num_tokens]``, added to the scores, or ``None``.

    Returns:
        Same shape as ``rows``.

    Raises:
        RuntimeError: the back-end does not support this case.
    """
    return F.scaled_dot_product_attention(rows, keys.transpose(1, 2), values.transpose(1, 2), attn_mask=mask)


def causal_mask(num_queries: int, seq_len: int, dtype: torch.dtype, device: torch.device) -> Tensor | None:
    """Return the mask that hides later tokens from each query token, for ``attend_causally``.

    On a CPU the mask is a tensor ``[num_queries, seq_len]``. On a GPU it is a marker that the kernels evaluate.

    Returns:
        The mask. ``None`` if none is needed, because all tokens or only the last token are query tokens.
    """
    if num_queries in (1, seq_len):
        return None
    if device.type != "cpu":
        # This import loads torch's compiler and takes 2 s or more, so only prompts on a GPU do it.
        from torch.nn.attention.bias import causal_lower_right

        lower_right: Tensor = causal_lower_right(num_queries, seq_len)
        return lower_right
    hidden = torch.ones((num_queries, seq_len), dtype=torch.bool).triu(seq_len - num_queries + 1)
    return torch.zeros(hidden.shape, dtype=dtype).masked_fill_(hidden, -torch.inf)


def attend_causally(query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
    """Return the causal attention of the newest tokens of one sequence, by the back-end that ``use_backend`` allows.

    KV heads are passed as the batch, and the query heads of each as its heads. K and V are neither copied nor repeated.

    Args:
        query: ``[num_queries, num_query_heads, head_dim]``.
        keys: ``[seq_len, num_kv_heads, head_dim]``.
        values: same shape as ``keys``.
        mask: result of ``causal_mask``.

    Returns:
        Same shape as ``query``.

    Raises:
        RuntimeError: the back-end does not support this case.
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
    """Return attention on a CPU by the flash back-end, and the log-sum-exp that merging requires.

    ``scaled_dot_product_attention`` computes the log-sum-exp but keeps it for the gradient only. So this function
    calls the underlying operator.

    Args:
        rows: as for ``attend``.
        keys: as for ``attend``.
        values: as for ``attend``.
        mask: as for ``attend``.

    Returns:
        Attention in the shape of ``rows``, and the log-sum-exp of the scaled scores, float32
        ``[n, num_kv_heads, num_rows]``.
    """
    operator = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    out, lse = operator(rows, keys.transpose(1, 2), values.transpose(1, 2), attn_mask=mask)
    return out, lse
