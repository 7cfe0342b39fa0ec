"""The second pass of flash-decoding: joins the parts of each sequence by their log-sum-exp."""

import triton
import triton.language as tl

from impls.kernels.tiles import first_token


@triton.jit(do_not_specialize=["num_splits"])
def merge_kernel(
    out_ptr,  # [num_seqs, num_query_heads, head_dim]
    parts_ptr,  # [num_seqs, num_query_heads, num_splits, head_dim] float32
    lse_ptr,  # [num_seqs, num_query_heads, num_splits] float32, base two
    seq_lens_ptr,  # [num_seqs] int32
    num_splits,
    split_tokens,
    NUM_QUERY_HEADS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    BLOCK_DIM: tl.constexpr,  # a power of two, at least HEAD_DIM
    WINDOW: tl.constexpr,  # as the decode kernel's
    BLOCK_TOKENS: tl.constexpr,  # as the decode kernel's
    BLOCK_SPLITS: tl.constexpr,  # parts per loop step
):
    """One query head of one sequence; grid ``(num_seqs * num_query_heads,)``.

    Parts past a sequence's end were never written and are never read.
    """
    row = tl.program_id(0).to(tl.int64)
    seq_len = tl.load(seq_lens_ptr + row // NUM_QUERY_HEADS)
    live_splits = tl.cdiv(seq_len - first_token(seq_len, WINDOW, BLOCK_TOKENS), split_tokens)
    dims = tl.arange(0, BLOCK_DIM)
    in_head = dims < HEAD_DIM
    running_max = float("-inf")
    running_sum = 0.0
    acc = tl.zeros([BLOCK_DIM], tl.float32)
    for first in range(0, live_splits, BLOCK_SPLITS):
        splits = first + tl.arange(0, BLOCK_SPLITS)
        live = splits < live_splits
        part = row * num_splits + splits
        lse = tl.load(lse_ptr + part, mask=live, other=float("-inf"))
        mask = live[:, None] & in_head[None, :]
        parts = tl.load(parts_ptr + part[:, None] * HEAD_DIM + dims[None, :], mask=mask, other=0.0)
        new_max = tl.maximum(running_max, tl.max(lse, axis=0))
        rescale = tl.exp2(running_max - new_max)
        weights = tl.exp2(lse - new_max)
        running_sum = running_sum * rescale + tl.sum(weights, axis=0)
        acc = acc * rescale + tl.sum(weights[:, None] * parts, axis=0)
        running_max = new_max
    tl.store(out_ptr + row * HEAD_DIM + dims, (acc / running_sum).to(out_ptr.dtype.element_ty), mask=in_head)
