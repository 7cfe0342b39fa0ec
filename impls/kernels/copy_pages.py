"""Copies whole pages: within a pool (copy-on-write), or between a pool and the host's (swapping)."""

import triton
import triton.language as tl


@triton.jit
def copy_pages_kernel(
    source_ptr,  # [num_source_pages, PAGE_ELEMENTS]
    target_ptr,  # [num_target_pages, PAGE_ELEMENTS], as the source on the device or in pinned host memory
    copies_ptr,  # [num_copies, 2] int64: source page, target page
    PAGE_ELEMENTS: tl.constexpr,
    BLOCK_ELEMENTS: tl.constexpr,
):
    """Copy a part of one page. The grid is ``(num_copies, ceil(PAGE_ELEMENTS / BLOCK_ELEMENTS))``."""
    copy = tl.program_id(0)
    source, target = tl.load(copies_ptr + 2 * copy), tl.load(copies_ptr + 2 * copy + 1)
    element = tl.program_id(1) * BLOCK_ELEMENTS + tl.arange(0, BLOCK_ELEMENTS)
    mask = element < PAGE_ELEMENTS
    part = tl.load(source_ptr + source * PAGE_ELEMENTS + element, mask=mask)
    tl.store(target_ptr + target * PAGE_ELEMENTS + element, part, mask=mask)
