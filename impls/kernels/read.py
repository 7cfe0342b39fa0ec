"""Reads memory once and writes almost nothing: the upper bound that other kernels are compared with."""

import triton
import triton.language as tl


@triton.jit
def read_kernel(
    sums_ptr,  # [num_programs] float32
    data_ptr,  # [num_elements] float32
    num_elements,  # a multiple of BLOCK_ELEMENTS
    BLOCK_ELEMENTS: tl.constexpr,
    NUM_STAGES: tl.constexpr,
):
    """Sum every ``num_programs``-th block; the sum keeps the compiler from dropping the loads."""
    elements = tl.arange(0, BLOCK_ELEMENTS)
    acc = tl.zeros([BLOCK_ELEMENTS], tl.float32)
    start = tl.program_id(0).to(tl.int64) * BLOCK_ELEMENTS
    step = tl.num_programs(0).to(tl.int64) * BLOCK_ELEMENTS
    for first in tl.range(start, num_elements, step, num_stages=NUM_STAGES):
        acc += tl.load(data_ptr + first + elements)
    tl.store(sums_ptr + tl.program_id(0), tl.sum(acc))
