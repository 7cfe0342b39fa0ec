"""Launches the streaming read, one of the kernels whose best bandwidth is the read ceiling of a GPU."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

import torch
from torch import Tensor

from impls.interface import Unsupported

BLOCK_ELEMENTS = 4096
"""Elements per loop step of a program: 16 KiB, 128 bytes per thread."""
PROGRAMS_PER_MULTIPROCESSOR = 4


def stream_reader(data: Tensor) -> Callable[[], Tensor]:
    """Return a call that reads ``data`` once and returns one sum per program.

    Args:
        data: contiguous float32 ``[num_elements]``, a multiple of ``BLOCK_ELEMENTS``.

    Raises:
        Unsupported: Triton is not installed, or the device is not CUDA.
    """
    if importlib.util.find_spec("triton") is None:
        raise Unsupported("the streaming read needs the package triton, which is not installed")
    from impls.kernels.read import read_kernel
    from impls.kernels.runtime import INTERPRETED

    if data.device.type == "cuda":
        num_programs = PROGRAMS_PER_MULTIPROCESSOR * torch.cuda.get_device_properties(data.device).multi_processor_count
    elif INTERPRETED:
        num_programs = 2
    else:
        raise Unsupported(f"the streaming read needs a CUDA device, not {data.device.type}")
    if data.numel() % BLOCK_ELEMENTS:
        raise ValueError(f"data has {data.numel()} elements; a multiple of {BLOCK_ELEMENTS} is needed")
    sums = torch.empty(num_programs, dtype=torch.float32, device=data.device)

    def read() -> Tensor:
        read_kernel[(num_programs,)](sums, data, data.numel(), BLOCK_ELEMENTS=BLOCK_ELEMENTS, NUM_STAGES=3, num_warps=4)
        return sums

    return read
