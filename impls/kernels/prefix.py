"""Attention of a whole batch over a prefix that all of its sequences share: the first level of a cascade.

The tokens of the prefix are read once per KV head and tile of rows, not once per sequence. The rows
of a tile are sequences times the query heads of one KV head. The result is a part of each sequence.
``impls.kernels.merge`` joins it with the parts of the sequence's own tokens by their log-sum-exp.
"""

import triton
import triton.language as tl

from impls.kernels.online_softmax import LOG2_E, LOWEST, attend_group, log_sum_exp
from impls.kernels.tiles import load_pages, tile_offsets


@triton.jit(do_not_specialize=["num_rows", "shared_tokens"])
def prefix_kernel(
    parts_ptr,  # [num_parts, num_query_heads, head_dim] float32
    part_lse_ptr,  # [num_parts, num_query_heads] float32, base two
    query_ptr,  # [num_seqs, num_query_heads, head_dim]
    k_cache_ptr,  # [num_pages, page_size, num_kv_heads, head_dim] of the strides below
    v_cache_ptr,  # as k_cache_ptr
    kv_scales_ptr,  # [2, num_kv_heads] float32, of K and of V. None if the cache is not quantised
    slopes_ptr,  # [num_query_heads] float32, of ALiBi. None: off
    table_ptr,  # [max_pages_per_seq] int32, the pages of one of the sequences
    seq_lens_ptr,  # [num_seqs] int32
    part_indptr_ptr,  # [num_seqs + 1] int32, where the parts of each sequence begin, those of the prefix first
    num_rows,  # num_seqs * GROUP_SIZE
    shared_tokens,  # tokens of the prefix
    part_tokens,  # tokens of each part of it, a multiple of BLOCK_TOKENS
    scale,  # of the scores, log2(e) included
    NUM_KV_HEADS: tl.constexpr,
    GROUP_SIZE: tl.constexpr,  # query heads per KV head
    HEAD_DIM: tl.constexpr,
    PAGED: tl.constexpr,  # always true: only pages can be shared
    PAGE_SIZE: tl.constexpr,  # tokens per page
    PAGE_STRIDE: tl.constexpr,  # elements between pages
    TOKEN_STRIDE: tl.constexpr,  # elements between neighbouring tokens
    HEAD_STRIDE: tl.constexpr,  # elements between KV heads
    SOFT_CAP: tl.constexpr,  # scores become SOFT_CAP * tanh(score / SOFT_CAP). 0: they stay
    BLOCK_ROWS: tl.constexpr,  # sequences times query heads of the group, at least 16
    BLOCK_DIM: tl.constexpr,  # a power of two, at least HEAD_DIM
    BLOCK_TOKENS: tl.constexpr,  # tokens per loop step, independent of PAGE_SIZE
    NUM_STAGES: tl.constexpr,  # loop steps whose loads overlap
):
    """Attend for a tile of rows, one KV head and one part of the prefix.

    The grid is ``(num_kv_heads, tiles of rows, parts of the prefix)``.
    """
    kv_head, part = tl.program_id(0), tl.program_id(2)
    rows = tl.program_id(1) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    in_batch = rows < num_rows
    dims = tl.arange(0, BLOCK_DIM)
    seq = rows // GROUP_SIZE
    query_head = kv_head * GROUP_SIZE + rows % GROUP_SIZE
    query_row = seq.to(tl.int64) * (NUM_KV_HEADS * GROUP_SIZE) + query_head
    in_head = in_batch[:, None] & (dims < HEAD_DIM)[None, :]
    query = tl.load(query_ptr + query_row[:, None] * HEAD_DIM + dims[None, :], mask=in_head, other=0.0)
    seq_len = tl.load(seq_lens_ptr + seq, mask=in_batch, other=0)  # 0 of a padding row, which sees nothing
    if kv_scales_ptr is not None:
        scale *= tl.load(kv_scales_ptr + kv_head)
    if slopes_ptr is not None:
        slopes = tl.load(slopes_ptr + query_head) * LOG2_E

    k_head_ptr = k_cache_ptr + kv_head * HEAD_STRIDE
    v_head_ptr = v_cache_ptr + kv_head * HEAD_STRIDE
    start = part * part_tokens
    stop = tl.minimum(start + part_tokens, shared_tokens)
    row_max = tl.full([BLOCK_ROWS], LOWEST, tl.float32)
    row_sum = tl.zeros([BLOCK_ROWS], tl.float32)
    acc = tl.zeros([BLOCK_ROWS, BLOCK_DIM], tl.float32)
    pages = load_pages(table_ptr, start, stop, PAGED, PAGE_SIZE, BLOCK_TOKENS)
    for first in tl.range(start, stop, BLOCK_TOKENS, num_stages=NUM_STAGES):
        tokens = first + tl.arange(0, BLOCK_TOKENS)
        live = tokens < stop
        mask = live[:, None] if HEAD_DIM == BLOCK_DIM else live[:, None] & (dims < HEAD_DIM)[None, :]
        offset = tile_offsets(pages, tokens, PAGED, PAGE_SIZE, PAGE_STRIDE, TOKEN_STRIDE)[:, None] + dims[None, :]
        keys = tl.load(k_head_ptr + offset, mask=mask, other=0.0).to(query.dtype)
        values = tl.load(v_head_ptr + offset, mask=mask, other=0.0).to(query.dtype)
        # One step ahead, so that the next addresses do not wait for the page table.
        pages = load_pages(table_ptr, first + BLOCK_TOKENS, stop, PAGED, PAGE_SIZE, BLOCK_TOKENS)
        visible = live[None, :] & (tokens[None, :] < seq_len[:, None])
        if slopes_ptr is None:
            bias = None
        else:
            bias = slopes[:, None] * (tokens[None, :] - (seq_len - 1)[:, None]).to(tl.float32)
        row_max, row_sum, acc = attend_group(query, keys, values, visible, bias, scale, SOFT_CAP, row_max, row_sum, acc)

    out = acc / tl.where(row_sum > 0, row_sum, 1.0)[:, None]
    if kv_scales_ptr is not None:
        out *= tl.load(kv_scales_ptr + NUM_KV_HEADS + kv_head)
    number = tl.load(part_indptr_ptr + seq, mask=in_batch, other=0) + part
    part_row = number.to(tl.int64) * (NUM_KV_HEADS * GROUP_SIZE) + query_head
    tl.store(parts_ptr + part_row[:, None] * HEAD_DIM + dims[None, :], out, mask=in_head)
    tl.store(part_lse_ptr + part_row, log_sum_exp(row_max, row_sum), mask=in_batch)
