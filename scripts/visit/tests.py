"""The repository's tests that need a GPU: the timers' alone on the device, the others on several processes."""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import time
from pathlib import Path

from bench.cli.exits import EXIT_OK, EXIT_VISIT_INCOMPLETE

TIMERS = ("tests/measure/test_gpu.py",)
OTHERS = ("tests/kernels/test_decode_results.py", "tests/kernels/test_paged_triton.py",
          "tests/kernels/test_extended.py", "tests/kernels/test_prefill.py", "tests/scenarios/test_prefill.py",
          "tests/scenarios/test_swap.py", "tests/impls")  # fmt: skip
WORKERS = 8
GRACE_S = 8.0


def command(out: Path, tests: tuple[str, ...], *, workers: int) -> list[str]:
    """Return the command of one pytest run. It ends after ten failures.

    pytest-benchmark is switched off. Some of its versions warn beside xdist, and a warning is an error here.
    """
    marks = "not slow and not perf and not cluster"
    parallel = ["-n", str(workers)] if workers > 1 else ["-p", "no:xdist"]
    return [sys.executable, "-m", "pytest", "-q", "--maxfail=10", "-o", "addopts=--import-mode=importlib", *parallel,
            "-p", "no:cacheprovider", "-p", "no:benchmark", "-m", marks, "--timeout", "60",
            f"--junit-xml={out}", "--durations=5", *tests]  # fmt: skip


def run(words: list[str], left_s: float) -> int:
    """Run a command. After ``left_s`` it is interrupted, so that it prints what it has found."""
    process = subprocess.Popen(words)
    try:
        return process.wait(max(left_s, 1.0))
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
    try:
        process.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    print(f"interrupted after {left_s:.0f} s", flush=True)
    return EXIT_VISIT_INCOMPLETE


def main() -> int:
    """Exit 0 if all tests pass, 4 if not or if the time was too short."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--budget-s", type=float, default=150.0)
    parser.add_argument("--small", action="store_true")
    arguments = parser.parse_args()
    deadline = time.monotonic() + arguments.budget_s - GRACE_S
    runs = [command(arguments.out / "timers.xml", TIMERS, workers=1)]
    if not arguments.small:
        runs.append(command(arguments.out / "others.xml", OTHERS, workers=WORKERS))
    codes = [run(words, deadline - time.monotonic()) for words in runs]
    return EXIT_VISIT_INCOMPLETE if any(codes) else EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
