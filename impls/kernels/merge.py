"""The second pass of flash-decoding: joins the parts of each split sequence by their log-sum-exp."""

import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_wait

from impls.kernels.online_softmax import LN_2, LOG2_E, LOWEST, add_sink, log_sum_exp


@triton.jit
def merge_kernel(
    out_ptr,  # [num_seqs, num_query_heads, head_dim]
    lse_ptr,  # [num_seqs, num_query_heads] float32, natural, sinks included. None if not wanted
    parts_ptr,  # [num_parts, num_query_heads, head_dim] float32
    part_lse_ptr,  # [num_parts, num_query_heads] float32, base two, -inf of a part without tokens
    sinks_ptr,  # [num_query_heads] float32, natural logits. None: off
    merged_seqs_ptr,  # [num_merged] int32, the sequences that were split
    part_indptr_ptr,  # [num_merged + 1] int32, where the parts of each of them begin
    NUM_QUERY_HEADS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    BLOCK_DIM: tl.constexpr,  # a power of two, at least HEAD_DIM
    BLOCK_SPLITS: tl.constexpr,  # parts per loop step
    OVERLAP: tl.constexpr,  # whether this kernel is launched before the decode kernel ends
):
    """Merge one query head of one split sequence. The grid is ``(num_merged * num_query_heads,)``.

    Sequences that were not split were written by the decode kernel and are not touched.
    """
    merged, head = tl.program_id(0) // NUM_QUERY_HEADS, tl.program_id(0) % NUM_QUERY_HEADS
    seq = tl.load(merged_seqs_ptr + merged)
    first_part = tl.load(part_indptr_ptr + merged)
    stop_part = tl.load(part_indptr_ptr + merged + 1)
    if OVERLAP:
        gdc_wait()  # until the decode kernel has ended and all that it wrote is visible
    dims = tl.arange(0, BLOCK_DIM)
    in_head = dims < HEAD_DIM
    running_max = LOWEST + 0.0
    running_sum = 0.0
    acc = tl.zeros([BLOCK_DIM], tl.float32)
    for first in range(first_part, stop_part, BLOCK_SPLITS):
        part = first + tl.arange(0, BLOCK_SPLITS)
        live = part < stop_part
        row = part.to(tl.int64) * NUM_QUERY_HEADS + head
        lse = tl.load(part_lse_ptr + row, mask=live, other=float("-inf"))
        mask = live[:, None] & in_head[None, :]
        parts = tl.load(parts_ptr + row[:, None] * HEAD_DIM + dims[None, :], mask=mask, other=0.0)
        new_max = tl.maximum(running_max, tl.max(lse, axis=0))
        rescale = tl.exp2(running_max - new_max)
        weights = tl.exp2(lse - new_max)
        running_sum = running_sum * rescale + tl.sum(weights, axis=0)
        acc = acc * rescale + tl.sum(weights[:, None] * parts, axis=0)
        running_max = new_max
    if sinks_ptr is not None:
        sink = tl.load(sinks_ptr + head) * LOG2_E
        running_max, running_sum, rescale = add_sink(sink, running_max, running_sum)
        acc *= rescale
    out = acc / tl.where(running_sum > 0, running_sum, 1.0)
    out_row = (seq * NUM_QUERY_HEADS + head).to(tl.int64)
    if lse_ptr is not None:
        tl.store(lse_ptr + out_row, log_sum_exp(running_max, running_sum) * LN_2)
    tl.store(out_ptr + out_row * HEAD_DIM + dims, out.to(out_ptr.dtype.element_ty), mask=in_head)
