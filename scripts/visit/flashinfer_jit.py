"""Build FlashInfer's decode kernels of the flagship batch ahead, without touching the GPU.

It runs beside the steps that time nothing: it takes a minute or more of nvcc.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any

from bench.cli.exits import EXIT_OK, EXIT_TOOL_ABSENT, EXIT_VISIT_INCOMPLETE

os.environ.setdefault("MAX_JOBS", "8")
os.environ.setdefault("FLASHINFER_CUDA_ARCH_LIST", "9.0a")


def main() -> int:
    """Exit 0 if both kernels are built, 3 without the package, 4 if a build failed."""
    try:
        import torch
        from flashinfer.jit import gen_batch_decode_module, gen_batch_prefill_module
    except ImportError as error:
        print(f"flashinfer cannot be imported: {error}")
        return EXIT_TOOL_ABSENT
    half, index = torch.float16, torch.int32
    builds: dict[str, Any] = {
        "decode": lambda: gen_batch_decode_module(half, half, half, index, 128, 128, 0, False, False),
        "prefill": lambda: gen_batch_prefill_module("fa2", half, half, half, index, 128, 128, 0, False, False, False),
    }
    failed = 0
    for name, make in builds.items():
        began = time.monotonic()
        try:
            make().build(verbose=False)
            print(f"{name}: built in {time.monotonic() - began:.0f} s", flush=True)
        except Exception as error:
            failed += 1
            print(f"{name}: {type(error).__name__}: {str(error)[-3000:]}", flush=True)
    return EXIT_VISIT_INCOMPLETE if failed else EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
