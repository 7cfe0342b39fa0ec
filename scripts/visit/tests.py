"""The repository's tests that need a GPU, as one pytest run with a time limit per test."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

TESTS = ("tests/measure/test_gpu.py", "tests/kernels/test_decode_results.py", "tests/kernels/test_paged_triton.py",
         "tests/kernels/test_prefill.py", "tests/scenarios/test_prefill.py", "tests/scenarios/test_swap.py",
         "tests/impls")  # fmt: skip


def command(out: Path, budget_s: float, *, small: bool) -> list[str]:
    """The pytest run; it ends after ten failures."""
    tests = TESTS[:1] if small else TESTS
    marks = "not slow and not perf and not cluster"
    return [sys.executable, "-m", "pytest", "-q", "--maxfail=10", "-o", "addopts=--import-mode=importlib",
            "-p", "no:cacheprovider", "-m", marks, "--timeout", "60", f"--junit-xml={out / 'tests.xml'}",
            "--durations=10", "--session-timeout", str(int(budget_s)), *tests]  # fmt: skip


def main() -> int:
    """Exit with pytest's code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--budget-s", type=float, default=150.0)
    parser.add_argument("--small", action="store_true")
    arguments = parser.parse_args()
    return subprocess.run(command(arguments.out, arguments.budget_s, small=arguments.small), check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
