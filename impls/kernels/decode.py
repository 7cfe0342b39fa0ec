"""Decode attention over a KV cache, paged or not: one new token per sequence.

The kernel is flash-decoding (Dao et al., 2023). The tokens of a long sequence are split over
programs. Each program runs an online softmax (Milakov and Gimelshein, 2018) over its own tokens, and
``impls.kernels.merge`` joins the parts. All query heads of a KV head share one program, so that K and
V are read once per KV head. Softmax is float32 and base two.

A program finds its tokens in the work list (``impls.launch.work_list``). Without a list, each program
attends to one whole sequence. A sequence without tokens gets zeros, and a log-sum-exp of -inf.

The running state (largest score, sum of weights, weighted sum of values) is kept per *lane*. With
several query heads per KV head a lane is a query head, and ``tl.dot`` does the products. With one
query head a lane is a token of the tile. Nothing in the loop then crosses warps, and the lanes are
joined once at the end.

An option that is off leaves no instruction behind: the work list, pages (``PAGED``), a window, a
soft cap, the scales of a quantised cache, attention sinks, ALiBi and the log-sum-exp.
"""

import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents

from impls.kernels.online_softmax import (
    LN_2,
    LOG2_E,
    LOWEST,
    add_sink,
    attend_group,
    attend_pairs,
    attend_single,
    join_lanes,
    log_sum_exp,
)
from impls.kernels.tiles import first_token, load_pages, load_pairs, tile_offsets


@triton.jit(do_not_specialize=["table_stride"])
def decode_kernel(
    out_ptr,  # [num_seqs, num_query_heads, head_dim]
    parts_ptr,  # [num_parts, num_query_heads, head_dim] float32. None if no sequence is split
    part_lse_ptr,  # [num_parts, num_query_heads] float32, base two. None if no sequence is split
    lse_ptr,  # [num_seqs, num_query_heads] float32, natural, sinks included. None if not wanted
    query_ptr,  # [num_seqs, num_query_heads, head_dim]
    k_cache_ptr,  # [num_pages, page_size, num_kv_heads, head_dim] of the strides below
    v_cache_ptr,  # as k_cache_ptr
    kv_scales_ptr,  # [2, num_kv_heads] float32, of K and of V. None if the cache is not quantised
    sinks_ptr,  # [num_query_heads] float32, natural logits that join the softmax without a value. None: off
    slopes_ptr,  # [num_query_heads] float32, of ALiBi. None: off
    table_ptr,  # PAGED: [num_seqs, max_pages_per_seq] int32, -1 past the end. Else [num_seqs] int64, first slots
    seq_lens_ptr,  # [num_seqs] int32
    work_ptr,  # [num_items, 4] int32: sequence, first token, one past the last, part or -1. None: an item is a sequence
    table_stride,
    scale,  # of the scores, log2(e) included
    NUM_KV_HEADS: tl.constexpr,
    GROUP_SIZE: tl.constexpr,  # query heads per KV head
    HEAD_DIM: tl.constexpr,
    PAGED: tl.constexpr,  # else the slots of a sequence are contiguous, and addresses are computed
    PAGE_SIZE: tl.constexpr,  # tokens per page. These two are 0 if not PAGED
    PAGE_STRIDE: tl.constexpr,  # elements between pages
    TOKEN_STRIDE: tl.constexpr,  # elements between neighbouring tokens
    HEAD_STRIDE: tl.constexpr,  # elements between KV heads
    WINDOW: tl.constexpr,  # newest tokens that are attended to. 0: all
    SOFT_CAP: tl.constexpr,  # scores become SOFT_CAP * tanh(score / SOFT_CAP). 0: they stay
    BLOCK_GROUP: tl.constexpr,  # query heads of a program: 1, or at least 16 for tl.dot
    BLOCK_DIM: tl.constexpr,  # a power of two, at least HEAD_DIM
    BLOCK_TOKENS: tl.constexpr,  # tokens per loop step, independent of PAGE_SIZE
    NUM_STAGES: tl.constexpr,  # loop steps whose loads overlap
    OVERLAP: tl.constexpr,  # whether the merge kernel may be launched before this one ends
):
    """Attend to one item of the work list for one KV head and at most ``BLOCK_GROUP`` of its query heads.

    The grid is ``(num_items * num_kv_heads * cdiv(group_size, BLOCK_GROUP),)``. KV heads run fastest:
    programs that run together read the same pages.
    """
    if OVERLAP:
        gdc_launch_dependents()
    GROUP_BLOCKS: tl.constexpr = (GROUP_SIZE + BLOCK_GROUP - 1) // BLOCK_GROUP
    item = tl.program_id(0) // (NUM_KV_HEADS * GROUP_BLOCKS)
    kv_head = tl.program_id(0) // GROUP_BLOCKS % NUM_KV_HEADS
    first_in_group = tl.program_id(0) % GROUP_BLOCKS * BLOCK_GROUP
    head = kv_head * GROUP_SIZE + first_in_group
    num_heads = GROUP_SIZE - first_in_group  # of this program, if BLOCK_GROUP are not fewer
    if work_ptr is None:
        seq = item
        seq_len = tl.load(seq_lens_ptr + seq)
        start = first_token(seq_len, WINDOW, BLOCK_TOKENS)
        stop = seq_len
    else:
        seq = tl.load(work_ptr + 4 * item)
        start = tl.load(work_ptr + 4 * item + 1)
        seq_len = tl.load(seq_lens_ptr + seq)
        stop = tl.minimum(tl.load(work_ptr + 4 * item + 2), seq_len)
    dims = tl.arange(0, BLOCK_DIM)
    row = seq * (NUM_KV_HEADS * GROUP_SIZE) + head
    query = _load_query(query_ptr + row.to(tl.int64) * HEAD_DIM, num_heads, HEAD_DIM, BLOCK_GROUP, BLOCK_DIM)
    group = tl.arange(0, BLOCK_GROUP)
    in_group = group < num_heads
    if slopes_ptr is not None:
        if BLOCK_GROUP > 1:
            slopes = tl.load(slopes_ptr + head + group, mask=in_group, other=0.0)[:, None] * LOG2_E
        else:
            slopes = tl.load(slopes_ptr + head) * LOG2_E
    if kv_scales_ptr is not None:
        scale *= tl.load(kv_scales_ptr + kv_head)

    k_head_ptr = k_cache_ptr + kv_head * HEAD_STRIDE
    v_head_ptr = v_cache_ptr + kv_head * HEAD_STRIDE
    table_row_ptr = table_ptr + seq.to(tl.int64) * table_stride
    if not PAGED:
        first_slot = tl.load(table_row_ptr)
        k_head_ptr += first_slot * TOKEN_STRIDE
        v_head_ptr += first_slot * TOKEN_STRIDE
    NUM_LANES: tl.constexpr = BLOCK_GROUP if BLOCK_GROUP > 1 else BLOCK_TOKENS
    lane_max = tl.full([NUM_LANES], LOWEST, tl.float32)
    lane_sum = tl.zeros([NUM_LANES], tl.float32)
    # V of 8 bits goes to tensor cores in pairs (see load_pairs), unless an odd HEAD_DIM puts tokens at odd addresses.
    STORED_BITS: tl.constexpr = v_cache_ptr.dtype.element_ty.primitive_bitwidth
    ON_TENSOR_CORES: tl.constexpr = BLOCK_GROUP > 1 and query.dtype.primitive_bitwidth == 16
    IN_PAIRS: tl.constexpr = ON_TENSOR_CORES and STORED_BITS == 8 and HEAD_DIM % 2 == 0
    acc = tl.zeros([NUM_LANES, BLOCK_DIM // 2 if IN_PAIRS else BLOCK_DIM], tl.float32)  # IN_PAIRS: of the even dims
    odd_acc = acc
    pages = load_pages(table_row_ptr, start, stop, PAGED, PAGE_SIZE, BLOCK_TOKENS)
    for first in tl.range(start, stop, BLOCK_TOKENS, num_stages=NUM_STAGES):
        tokens = first + tl.arange(0, BLOCK_TOKENS)
        # The loads are masked, not only the scores: zero times the NaN of a dead slot is NaN.
        live = tokens < stop
        if WINDOW:
            live &= tokens >= seq_len - WINDOW
        mask = live[:, None] if HEAD_DIM == BLOCK_DIM else live[:, None] & (dims < HEAD_DIM)[None, :]
        starts = tile_offsets(pages, tokens, PAGED, PAGE_SIZE, PAGE_STRIDE, TOKEN_STRIDE)
        offset = starts[:, None] + dims[None, :]
        keys = tl.load(k_head_ptr + offset, mask=mask, other=0.0).to(query.dtype)
        if IN_PAIRS:
            even, odd = load_pairs(v_head_ptr, starts, live, HEAD_DIM, BLOCK_DIM)
        else:
            values = tl.load(v_head_ptr + offset, mask=mask, other=0.0).to(query.dtype)
        if slopes_ptr is None:
            bias = None
        else:
            distance = (tokens - (seq_len - 1)).to(tl.float32)
            bias = slopes * (distance[None, :] if BLOCK_GROUP > 1 else distance)
        # One step ahead, so that the next addresses do not wait for the page table.
        pages = load_pages(table_row_ptr, first + BLOCK_TOKENS, stop, PAGED, PAGE_SIZE, BLOCK_TOKENS)
        if IN_PAIRS:
            even, odd, visible = even.to(query.dtype), odd.to(query.dtype), live[None, :]
            lane_max, lane_sum, acc, odd_acc = attend_pairs(
                query, keys, even, odd, visible, bias, scale, SOFT_CAP, lane_max, lane_sum, acc, odd_acc
            )
        elif BLOCK_GROUP > 1:
            visible = live[None, :]
            lane_max, lane_sum, acc = attend_group(
                query, keys, values, visible, bias, scale, SOFT_CAP, lane_max, lane_sum, acc
            )
        else:
            lane_max, lane_sum, acc = attend_single(
                query, keys, values, live, bias, scale, SOFT_CAP, lane_max, lane_sum, acc
            )

    if BLOCK_GROUP == 1:
        lane_max, lane_sum, acc = join_lanes(lane_max, lane_sum, acc)
    if IN_PAIRS:
        acc = tl.interleave(acc, odd_acc)
    if parts_ptr is not None:
        part = tl.load(work_ptr + 4 * item + 3)
    if sinks_ptr is not None:
        sink = tl.load(sinks_ptr + head + group, mask=in_group, other=float("-inf")) * LOG2_E
        if parts_ptr is not None:
            sink = tl.where(part < 0, sink, float("-inf"))  # of a split sequence it joins when the parts are merged
        lane_max, lane_sum, rescale = add_sink(sink, lane_max, lane_sum)
        acc *= rescale[:, None]
    # Where no token was visible, the sums are zero, and zeros are stored.
    out = acc / tl.where(lane_sum > 0, lane_sum, 1.0)[:, None]
    if kv_scales_ptr is not None:
        out *= tl.load(kv_scales_ptr + NUM_KV_HEADS + kv_head)
    lse = log_sum_exp(lane_max, lane_sum)
    out_row = (row + group).to(tl.int64)
    out_offset = out_row[:, None] * HEAD_DIM + dims[None, :]
    in_head = in_group[:, None] & (dims < HEAD_DIM)[None, :]
    if parts_ptr is None:
        tl.store(out_ptr + out_offset, out.to(out_ptr.dtype.element_ty), mask=in_head)
        if lse_ptr is not None:
            tl.store(lse_ptr + out_row, lse * LN_2, mask=in_group)
    else:
        tl.store(out_ptr + out_offset, out.to(out_ptr.dtype.element_ty), mask=in_head & (part < 0))
        if lse_ptr is not None:
            tl.store(lse_ptr + out_row, lse * LN_2, mask=in_group & (part < 0))
        part_row = part.to(tl.int64) * (NUM_KV_HEADS * GROUP_SIZE) + head + group
        tl.store(parts_ptr + part_row[:, None] * HEAD_DIM + dims[None, :], out, mask=in_head & (part >= 0))
        tl.store(part_lse_ptr + part_row, lse, mask=in_group & (part >= 0))


@triton.jit
def _load_query(
    query_row_ptr,  # [num_heads, head_dim]
    num_heads,
    HEAD_DIM: tl.constexpr,
    BLOCK_GROUP: tl.constexpr,
    BLOCK_DIM: tl.constexpr,
):
    """Return the query heads of a program: ``[BLOCK_GROUP, BLOCK_DIM]``, or ``[BLOCK_DIM]`` of one head.

    One row alone stays one-dimensional. As a tile it would impose its thread layout on K.
    """
    dims = tl.arange(0, BLOCK_DIM)
    if BLOCK_GROUP == 1:
        query = tl.load(query_row_ptr + dims, mask=dims < HEAD_DIM, other=0.0)
    else:
        group = tl.arange(0, BLOCK_GROUP)
        mask = (group < num_heads)[:, None] & (dims < HEAD_DIM)[None, :]
        query = tl.load(query_row_ptr + group[:, None] * HEAD_DIM + dims[None, :], mask=mask, other=0.0)
    return query
