"""The streaming read, interpreted and compiled; runs in a worker, as ``attention_case`` does."""

from __future__ import annotations

import torch

from impls.launch.stream_read import BLOCK_ELEMENTS, stream_reader
from tests.kernels.attention_case import DEVICE
from tests.proofs.machine_code import Launch, MachineCode, assemble

NUM_PROGRAMS = 528


def read_twice(num_blocks: int) -> tuple[float, float, float]:
    """Return the sums of two reads of the same tensor, which changes between them, and its own sum at the end."""
    data = torch.ones(num_blocks * BLOCK_ELEMENTS, device=DEVICE)
    read = stream_reader(data)
    first = float(read().sum())
    data += torch.arange(len(data), device=DEVICE) % 3
    return first, float(read().sum()), float(data.sum(dtype=torch.float64))


def refuse(num_elements: int) -> str:
    """Return the message for a tensor that is no whole number of blocks."""
    try:
        stream_reader(torch.ones(num_elements, device=DEVICE))
    except ValueError as error:
        return str(error)
    return ""


def compile_read(num_elements: int) -> MachineCode:
    """Compile the kernel for an H100 as it reads so many elements."""
    from impls.kernels.read import read_kernel

    tensor = torch.empty(4)
    keywords = {"BLOCK_ELEMENTS": BLOCK_ELEMENTS, "NUM_STAGES": 3, "num_warps": 4}
    return assemble(Launch(read_kernel, (tensor, tensor, num_elements), keywords), 90)
