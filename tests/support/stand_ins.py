"""Stand-ins for kernels of other projects: documented arguments and refusals, with results of the reference.

Argument names, layouts and refusals are those of flashinfer-python 0.7.2.post1, flash-attn 2.8.3.post2 and
torch 2.13.0 (FlashAttention 2), read in their sources. They show that our arguments match the documented ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from impls.reference import decode_attention

PAGE_MULTIPLE = 256
GROUPS_WITHOUT_TENSOR_CORES = (1, 2, 3, 4, 6, 8, 16)


def attend(query: Tensor, keys: Tensor, values: Tensor, pages: Sequence[Tensor], lens: Sequence[int]) -> Tensor:
    """The reference over ``[num_pages, page_size, num_kv_heads, head_dim]``, by each sequence's pages and length."""
    lists = [[pool[ids.long()].flatten(0, 1)[:num] for ids, num in zip(pages, lens, strict=True)]
             for pool in (keys, values)]  # fmt: skip
    return decode_attention(query, *lists).to(query.dtype)


def check_table(pages: Tensor, lens: Tensor, keys: Tensor) -> None:
    """What FlashAttention asserts of a block table, and that it may compute an address of every entry."""
    if keys.shape[1] % PAGE_MULTIPLE:
        raise RuntimeError(f"Paged KV cache block size must be divisible by {PAGE_MULTIPLE}")
    assert pages.dtype == lens.dtype == torch.int32
    assert lens.shape == (len(pages),)
    assert 0 <= int(pages.min()) <= int(pages.max()) < len(keys)


class BatchDecodeWithPagedKVCacheWrapper:
    """FlashInfer's, without CUDA graphs: ``plan`` once per batch, then ``run`` per layer."""

    def __init__(self, float_workspace_buffer: Tensor, kv_layout: str = "NHD", use_cuda_graph: bool = False,
                 use_tensor_cores: bool = False) -> None:  # fmt: skip
        assert float_workspace_buffer.dtype == torch.uint8
        assert not float_workspace_buffer.any(), "its first use wants zeros"
        assert kv_layout == "NHD"
        assert not use_cuda_graph
        self.use_tensor_cores = use_tensor_cores

    def plan(self, indptr: Tensor, indices: Tensor, last_page_len: Tensor, num_qo_heads: int, num_kv_heads: int,
             head_dim: int, page_size: int, *, pos_encoding_mode: str = "NONE", q_data_type: torch.dtype,
             kv_data_type: torch.dtype) -> None:  # fmt: skip
        assert pos_encoding_mode == "NONE"
        assert {tensor.dtype for tensor in (indptr, indices, last_page_len)} == {torch.int32}
        assert indptr.device.type == last_page_len.device.type == "cpu", "it computes on the host"
        assert bool((last_page_len >= 1).all() and (last_page_len <= page_size).all())
        if not self.use_tensor_cores and num_qo_heads // num_kv_heads not in GROUPS_WITHOUT_TENSOR_CORES:
            raise RuntimeError(f"Unsupported group_size: {num_qo_heads // num_kv_heads}")
        self._pages = [indices[start:stop] for start, stop in pairwise(indptr)]
        self._lens = [(len(ids) - 1) * page_size + int(last)
                      for ids, last in zip(self._pages, last_page_len, strict=True)]  # fmt: skip
        self._shape = (num_qo_heads, num_kv_heads, head_dim, page_size)
        self._dtypes = (q_data_type, kv_data_type)

    def run(self, q: Tensor, paged_kv_cache: tuple[Tensor, Tensor]) -> Tensor:
        keys, values = paged_kv_cache
        assert (q.shape[1], keys.shape[2], keys.shape[3], keys.shape[1]) == self._shape
        assert (q.dtype, keys.dtype) == self._dtypes
        return attend(q, keys, values, self._pages, self._lens)


def flash_attn_with_kvcache(q: Tensor, k_cache: Tensor, v_cache: Tensor, *, cache_seqlens: Tensor,
                            block_table: Tensor, causal: bool = False) -> Tensor:  # fmt: skip
    """FlashAttention 2's function. ``q`` is ``[num_seqs, 1, num_query_heads, head_dim]``."""
    assert q.shape[1] == 1
    check_table(block_table, cache_seqlens, k_cache)
    return attend(q[:, 0], k_cache, v_cache, block_table.unbind(), cache_seqlens.tolist())[:, None]


def varlen_attn(query: Tensor, key: Tensor, value: Tensor, cu_seq_q: Tensor, cu_seq_k: Tensor | None, max_q: int,
                max_k: int, *, enable_gqa: bool = False, seqused_k: Tensor, block_table: Tensor,
                num_splits: int | None = None) -> Tensor:  # fmt: skip
    """torch's, with FlashAttention 2 beneath it."""
    if cu_seq_k is None:
        raise RuntimeError("cumulative_sequence_length_q and cumulative_sequence_length_k must be both set or not")
    check_table(block_table, seqused_k, key)
    assert cu_seq_q.tolist() == list(range(len(query) + 1))
    assert cu_seq_k.dtype == torch.int32
    assert cu_seq_k.diff().tolist() == seqused_k.tolist()
    assert (max_q, max_k) == (1, int(seqused_k.max()))
    is_grouped = query.shape[1] != key.shape[2]
    assert enable_gqa == is_grouped
    if not is_grouped and num_splits != 1:
        raise RuntimeError("num_splits > 1 is not supported for varlen paged KV")
    return attend(query, key, value, block_table.unbind(), seqused_k.tolist())
