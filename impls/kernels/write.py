"""Stores new K and V in the cache, through a slot mapping."""

import triton
import triton.language as tl


@triton.jit
def write_kernel(
    k_cache_ptr,  # [num_pages, page_size, num_kv_heads, head_dim] of the strides below
    v_cache_ptr,  # as k_cache_ptr
    keys_ptr,  # [num_tokens, num_kv_heads, head_dim]
    values_ptr,  # as keys_ptr
    slot_mapping_ptr,  # [num_tokens] int64, -1 = skip
    NUM_KV_HEADS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    PAGE_SIZE: tl.constexpr,  # tokens per page
    PAGE_STRIDE: tl.constexpr,  # elements between pages
    TOKEN_STRIDE: tl.constexpr,  # elements between the tokens of a page
    HEAD_STRIDE: tl.constexpr,  # elements between KV heads
    BLOCK_ELEMENTS: tl.constexpr,  # elements of one token per program, over heads and dims
):
    """A part of one token; grid ``(num_tokens, ceil(num_kv_heads * head_dim / BLOCK_ELEMENTS))``."""
    token = tl.program_id(0).to(tl.int64)
    slot = tl.load(slot_mapping_ptr + token)
    if slot < 0:
        return
    element = tl.program_id(1) * BLOCK_ELEMENTS + tl.arange(0, BLOCK_ELEMENTS)
    mask = element < NUM_KV_HEADS * HEAD_DIM
    source = token * (NUM_KV_HEADS * HEAD_DIM) + element
    target = slot // PAGE_SIZE * PAGE_STRIDE + slot % PAGE_SIZE * TOKEN_STRIDE
    target += element // HEAD_DIM * HEAD_STRIDE + element % HEAD_DIM
    tl.store(k_cache_ptr + target, tl.load(keys_ptr + source, mask=mask), mask=mask)
    tl.store(v_cache_ptr + target, tl.load(values_ptr + source, mask=mask), mask=mask)
