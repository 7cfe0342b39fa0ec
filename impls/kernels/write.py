"""Stores new K and V in the cache, through a slot mapping."""

import triton
import triton.language as tl

from impls.kernels.runtime import INTERPRETED

_INTERPRETED = tl.constexpr(INTERPRETED)
_LARGEST_E4M3 = tl.constexpr(448.0)


@triton.jit
def write_kernel(
    k_cache_ptr,  # [num_pages, page_size, num_kv_heads, head_dim] of the strides below
    v_cache_ptr,  # as k_cache_ptr
    kv_scales_ptr,  # [2, num_kv_heads] float32, of K and of V. None if the cache is not quantised
    keys_ptr,  # [num_tokens, num_kv_heads, head_dim]
    values_ptr,  # as keys_ptr
    slot_mapping_ptr,  # [num_tokens] int64, -1 = skip
    NUM_KV_HEADS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    PAGED: tl.constexpr,  # else slots are contiguous
    PAGE_SIZE: tl.constexpr,  # tokens per page. These two are 0 if not PAGED
    PAGE_STRIDE: tl.constexpr,  # elements between pages
    TOKEN_STRIDE: tl.constexpr,  # elements between neighbouring tokens
    HEAD_STRIDE: tl.constexpr,  # elements between KV heads
    BLOCK_ELEMENTS: tl.constexpr,  # elements of one token per program, over heads and dims
):
    """Store a part of one token. The grid is ``(num_tokens, ceil(num_kv_heads * head_dim / BLOCK_ELEMENTS))``."""
    token = tl.program_id(0).to(tl.int64)
    slot = tl.load(slot_mapping_ptr + token)
    if slot < 0:
        return
    element = tl.program_id(1) * BLOCK_ELEMENTS + tl.arange(0, BLOCK_ELEMENTS)
    mask = element < NUM_KV_HEADS * HEAD_DIM
    head = element // HEAD_DIM
    source = token * (NUM_KV_HEADS * HEAD_DIM) + element
    if PAGED:
        target = slot // PAGE_SIZE * PAGE_STRIDE + slot % PAGE_SIZE * TOKEN_STRIDE
    else:
        target = slot * TOKEN_STRIDE
    target += head * HEAD_STRIDE + element % HEAD_DIM
    keys = tl.load(keys_ptr + source, mask=mask)
    values = tl.load(values_ptr + source, mask=mask)
    if kv_scales_ptr is not None:
        keys = _quantised(keys, tl.load(kv_scales_ptr + head, mask=mask, other=1.0))
        values = _quantised(values, tl.load(kv_scales_ptr + NUM_KV_HEADS + head, mask=mask, other=1.0))
    tl.store(k_cache_ptr + target, keys.to(k_cache_ptr.dtype.element_ty), mask=mask)
    tl.store(v_cache_ptr + target, values.to(v_cache_ptr.dtype.element_ty), mask=mask)


@triton.jit
def _quantised(rows, scale):
    """Rows in units of their head's scale, within what e4m3 holds: it has no infinity to overflow to."""
    units = tl.clamp(tl.div_rn(rows.to(tl.float32), scale), -_LARGEST_E4M3, _LARGEST_E4M3)
    if _INTERPRETED:  # Triton's interpreter loses the carry when it rounds to 8 bits: 31.4 becomes 16.
        units = _rounded_to_e4m3(units)
    return units


@triton.jit
def _rounded_to_e4m3(units):
    """The nearest number that e4m3 holds, ties to even, in float32: four significant bits, or steps of 2**-9."""
    shifted = units * (2**20 + 1)  # Veltkamp's splitting
    normal = shifted - (shifted - units)
    subnormal = (units + 1.5 * 2**14) - 1.5 * 2**14
    return tl.where(tl.abs(units) < 2**-6, subnormal, normal)
