"""Attention of a sequence's newest tokens over a KV cache that holds them already, paged or not.

The query tokens may be the whole sequence, or a chunk appended to a prefix that is in the cache.
Attention is causal, or follows a tree of drafted tokens (speculative decoding). Sequences are
ragged: their query tokens follow one another without padding. A tile's rows are query tokens times
the query heads of one KV head, so that K and V are read once per KV head and tile.
"""

import triton
import triton.language as tl

from impls.kernels.online_softmax import LOG2_E, LOWEST, add_sink, attend_group
from impls.kernels.tiles import load_pages, tile_offsets


@triton.jit(do_not_specialize=["table_stride", "tree_stride"])
def prefill_kernel(
    out_ptr,  # [num_queries, num_query_heads, head_dim], one sequence after another
    query_ptr,  # as out_ptr
    k_cache_ptr,  # [num_pages, page_size, num_kv_heads, head_dim] of the strides below
    v_cache_ptr,  # as k_cache_ptr
    kv_scales_ptr,  # [2, num_kv_heads] float32, of K and of V. None if the cache is not quantised
    sinks_ptr,  # [num_query_heads] float32, natural logits that join the softmax without a value. None: off
    slopes_ptr,  # [num_query_heads] float32, of ALiBi. None: off
    table_ptr,  # PAGED: [num_seqs, max_pages_per_seq] int32, -1 past the end. Else [num_seqs] int64, first slots
    seq_lens_ptr,  # [num_seqs] int32, the queries included
    query_starts_ptr,  # [num_seqs + 1] int32: where each sequence's queries begin. The last is their number
    tiles_ptr,  # [num_tiles, 2] int32: sequence, and first row. A row is a query token and a query head of the group
    tree_ptr,  # [num_queries, tree_stride] int8: whether it sees each query token of its sequence. None: causal
    table_stride,
    tree_stride,
    scale,  # of the scores, log2(e) included
    NUM_KV_HEADS: tl.constexpr,
    GROUP_SIZE: tl.constexpr,  # query heads per KV head
    HEAD_DIM: tl.constexpr,
    PAGED: tl.constexpr,  # else the slots of a sequence are contiguous, and addresses are computed
    PAGE_SIZE: tl.constexpr,  # tokens per page. These two are 0 if not PAGED
    PAGE_STRIDE: tl.constexpr,  # elements between pages
    TOKEN_STRIDE: tl.constexpr,  # elements between neighbouring tokens
    HEAD_STRIDE: tl.constexpr,  # elements between KV heads
    WINDOW: tl.constexpr,  # newest tokens that a query sees, its own included. 0: all
    SOFT_CAP: tl.constexpr,  # scores become SOFT_CAP * tanh(score / SOFT_CAP). 0: they stay
    BLOCK_ROWS: tl.constexpr,  # query tokens times query heads of the group, at least 16
    BLOCK_DIM: tl.constexpr,  # a power of two, at least HEAD_DIM
    BLOCK_TOKENS: tl.constexpr,  # tokens per loop step, independent of PAGE_SIZE
    NUM_STAGES: tl.constexpr,  # loop steps whose loads overlap
):
    """Attend for a tile of one sequence's queries and one KV head.

    The grid is ``(num_tiles * num_kv_heads,)``. KV heads run fastest.
    """
    tile, kv_head = tl.program_id(0) // NUM_KV_HEADS, tl.program_id(0) % NUM_KV_HEADS
    seq = tl.load(tiles_ptr + 2 * tile)
    first_row = tl.load(tiles_ptr + 2 * tile + 1)
    query_start = tl.load(query_starts_ptr + seq)
    num_queries = tl.load(query_starts_ptr + seq + 1) - query_start
    seq_len = tl.load(seq_lens_ptr + seq)
    rows = first_row + tl.arange(0, BLOCK_ROWS)
    dims = tl.arange(0, BLOCK_DIM)
    query_head = kv_head * GROUP_SIZE + rows % GROUP_SIZE
    query_row = (query_start + rows // GROUP_SIZE).to(tl.int64) * (NUM_KV_HEADS * GROUP_SIZE) + query_head
    in_query = (rows < num_queries * GROUP_SIZE)[:, None] & (dims < HEAD_DIM)[None, :]
    query_offset = query_row[:, None] * HEAD_DIM + dims[None, :]
    query = tl.load(query_ptr + query_offset, mask=in_query, other=0.0)
    if kv_scales_ptr is not None:
        scale *= tl.load(kv_scales_ptr + kv_head)
    if slopes_ptr is not None:
        slopes = tl.load(slopes_ptr + query_head) * LOG2_E

    # The position of each row's token in its sequence is the last one that it sees.
    position = tl.minimum(seq_len - num_queries + rows // GROUP_SIZE, seq_len - 1)
    first_position = seq_len - num_queries + first_row // GROUP_SIZE
    stop = tl.minimum(first_position + (BLOCK_ROWS - 1 + first_row % GROUP_SIZE) // GROUP_SIZE + 1, seq_len)
    if tree_ptr is not None:  # tokens of one depth follow one another: a row may see any of them
        stop = seq_len
    start = 0
    if WINDOW:
        start = tl.maximum(first_position + 1 - WINDOW, 0) // BLOCK_TOKENS * BLOCK_TOKENS

    k_head_ptr = k_cache_ptr + kv_head * HEAD_STRIDE
    v_head_ptr = v_cache_ptr + kv_head * HEAD_STRIDE
    table_row_ptr = table_ptr + seq.to(tl.int64) * table_stride
    if not PAGED:
        first_slot = tl.load(table_row_ptr)
        k_head_ptr += first_slot * TOKEN_STRIDE
        v_head_ptr += first_slot * TOKEN_STRIDE
    row_max = tl.full([BLOCK_ROWS], LOWEST, tl.float32)
    row_sum = tl.zeros([BLOCK_ROWS], tl.float32)
    acc = tl.zeros([BLOCK_ROWS, BLOCK_DIM], tl.float32)
    pages = load_pages(table_row_ptr, start, stop, PAGED, PAGE_SIZE, BLOCK_TOKENS)
    for first in tl.range(start, stop, BLOCK_TOKENS, num_stages=NUM_STAGES):
        tokens = first + tl.arange(0, BLOCK_TOKENS)
        # The loads are masked, not only the scores: zero times the NaN of a dead slot is NaN.
        live = tokens < stop
        mask = live[:, None] if HEAD_DIM == BLOCK_DIM else live[:, None] & (dims < HEAD_DIM)[None, :]
        offset = tile_offsets(pages, tokens, PAGED, PAGE_SIZE, PAGE_STRIDE, TOKEN_STRIDE)[:, None] + dims[None, :]
        keys = tl.load(k_head_ptr + offset, mask=mask, other=0.0).to(query.dtype)
        values = tl.load(v_head_ptr + offset, mask=mask, other=0.0).to(query.dtype)
        # One step ahead, so that the next addresses do not wait for the page table.
        pages = load_pages(table_row_ptr, first + BLOCK_TOKENS, stop, PAGED, PAGE_SIZE, BLOCK_TOKENS)
        if tree_ptr is None:
            visible = tokens[None, :] <= position[:, None]
        else:
            in_tree = tokens - (seq_len - num_queries)
            drafted = (rows < num_queries * GROUP_SIZE)[:, None] & (in_tree >= 0)[None, :] & live[None, :]
            tree_offset = (query_start + rows // GROUP_SIZE).to(tl.int64)[:, None] * tree_stride + in_tree[None, :]
            visible = (in_tree < 0)[None, :] | (tl.load(tree_ptr + tree_offset, mask=drafted, other=0) != 0)
        if WINDOW:
            visible &= tokens[None, :] > position[:, None] - WINDOW
        if slopes_ptr is None:
            bias = None
        else:
            bias = slopes[:, None] * (tokens[None, :] - position[:, None]).to(tl.float32)
        row_max, row_sum, acc = attend_group(query, keys, values, visible, bias, scale, SOFT_CAP, row_max, row_sum, acc)

    if sinks_ptr is not None:
        sink = tl.load(sinks_ptr + query_head) * LOG2_E
        row_max, row_sum, rescale = add_sink(sink, row_max, row_sum)
        acc *= rescale[:, None]
    # A row that sees no token, as padding has it, stores zeros.
    out = acc / tl.where(row_sum > 0, row_sum, 1.0)[:, None]
    if kv_scales_ptr is not None:
        out *= tl.load(kv_scales_ptr + NUM_KV_HEADS + kv_head)
    tl.store(out_ptr + query_offset, out.to(out_ptr.dtype.element_ty), mask=in_query)
