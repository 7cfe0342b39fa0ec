"""Facts about the machine, and its bandwidths: ``facts.json``. A part that fails is recorded with its error."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import shutil
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.cli.exits import EXIT_OK, EXIT_VISIT_INCOMPLETE

PACKAGES = ("torch", "triton", "numpy", "pandas", "scipy", "pyarrow", "hydra", "omegaconf", "antlr4", "pynvml",
            "filelock", "psutil", "rich", "yaml", "flashinfer", "tvm_ffi", "vllm", "flash_attn", "cupti")  # fmt: skip
GIB = 2**30


def packages() -> dict[str, str]:
    """Version of each package, or why its import fails."""
    found = {}
    for name in PACKAGES:
        try:
            module = importlib.import_module(name)
            found[name] = str(getattr(module, "__version__", "imported"))
        except Exception as error:
            found[name] = f"{type(error).__name__}: {str(error)[:200]}"
    return found


def tools() -> dict[str, str | None]:
    """First line that each tool prints of its version."""
    commands = {"nvidia-smi": ["nvidia-smi"], "nvcc": ["nvcc", "--version"], "ncu": ["ncu", "--version"],
                "compute-sanitizer": ["compute-sanitizer", "--version"], "gcc": ["gcc", "--version"],
                "ninja": ["ninja", "--version"]}  # fmt: skip
    return {name: _output_of(command) for name, command in commands.items()}


def _output_of(command: list[str]) -> str | None:
    if shutil.which(command[0]) is None:
        return None
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=15, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{type(error).__name__}: {error}"
    return (done.stdout + done.stderr).strip()[-1500:]


def device(name: str) -> dict[str, Any]:
    """What torch and NVML know of the device."""
    from bench.runner.machine.environment import probe_device

    return dict(probe_device({}).values)


def bandwidth(name: str, num_bytes: int) -> dict[str, Any]:
    """Read and copy bandwidth with cold L2, in 10⁹ bytes/s."""
    import torch

    from bench.config import MeasureConfig
    from bench.measure.intervals import median_interval
    from bench.measure.timers.timing import Timer, choose_timer
    from bench.measure.timers.work import Work

    measure = MeasureConfig(name="visit", timer="auto", warmup_ms=10, min_samples=20, max_s=0.3,
                            rel_half_width=0.005, ceiling_bytes=num_bytes)  # fmt: skip
    where = torch.device(name)
    data = torch.ones(num_bytes // 4, dtype=torch.float32, device=where)
    other = torch.empty_like(data)
    calls: dict[str, tuple[Callable[[], object], int]] = {
        "read_sum_gbps": (data.sum, num_bytes),
        "read_max_gbps": (lambda: data.view(torch.int32).max(), num_bytes),
        "copy_gbps": (lambda: other.copy_(data), 2 * num_bytes),
    }
    found: dict[str, Any] = {"bytes": num_bytes}
    for title, (call, moved) in calls.items():
        choice = choose_timer(measure, where, moved_bytes=moved, storage_bytes=moved, ceiling_gbps=None)
        samples = Timer(measure, where, choice).device_work(Work.of_one(call, data))
        found[title] = moved / median_interval(samples.values_us).median / 1000
    return found


def child_seconds(name: str) -> dict[str, float]:
    """Seconds of a new process's first steps on the device: what every point of a sweep pays."""
    import torch

    began = time.perf_counter()
    value = torch.ones(1, device=name)
    context = time.perf_counter() - began
    began = time.perf_counter()
    torch.randn(64, 64, device=name, dtype=torch.float32).softmax(-1).sum().item()
    return {"context": context, "first_kernels": time.perf_counter() - began, "ones": float(value.item())}


def main() -> int:
    """Write facts.json. Exit 0 if the device and its bandwidth are known, 4 if not."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of facts.json")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--budget-s", type=float, default=45.0)
    parser.add_argument("--small", action="store_true")
    arguments = parser.parse_args()
    num_bytes = 2**24 if arguments.small else GIB
    facts: dict[str, Any] = {
        "python": platform.python_version(),
        "machine": platform.platform(),
        "cpus": os.cpu_count(),
    }
    failed = []
    parts: dict[str, Callable[[], Any]] = {
        "child_seconds": lambda: child_seconds(arguments.device),
        "device": lambda: device(arguments.device),
        "bandwidth": lambda: bandwidth(arguments.device, num_bytes),
        "packages": packages,
        "tools": tools,
    }
    for name, part in parts.items():
        began = time.monotonic()
        try:
            facts[name] = part()
        except Exception as error:
            traceback.print_exc()
            facts[name] = {"error": f"{type(error).__name__}: {error}"}
            failed.append(name)
        facts.setdefault("seconds", {})[name] = round(time.monotonic() - began, 2)
        (arguments.out / "facts.json").write_text(json.dumps(facts, indent=1), encoding="utf-8")
    print(json.dumps(facts, indent=1)[:6000])
    return EXIT_VISIT_INCOMPLETE if failed else EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
