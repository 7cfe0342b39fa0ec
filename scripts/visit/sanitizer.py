"""compute-sanitizer's memcheck on one small decode step of each Triton arm."""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

from bench.cli.exits import EXIT_OK, EXIT_TOOL_ABSENT, EXIT_VISIT_INCOMPLETE
from scripts.visit.cases import Shape

SHAPE = Shape(name="small", lens=(1, 17, 64, 300))


def target(arm: str, device: str) -> None:
    """Write and decode a small batch."""
    import torch

    from scripts.visit.cases import draw, make_cache, write

    cache = make_cache(SHAPE, arm, device)
    query, keys, values = draw(SHAPE, device)
    write(cache, keys, values)
    batch = cache.prepare(range(len(SHAPE.lens)))
    cache.decode(0, query, batch)
    torch.cuda.synchronize()


def main() -> int:
    """Exit 0 if no error was found, 3 without the tool, 4 otherwise."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--budget-s", type=float, default=90.0)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--target")
    arguments = parser.parse_args()
    if arguments.target:
        target(arguments.target, arguments.device)
        return EXIT_OK
    if shutil.which("compute-sanitizer") is None or arguments.device == "cpu":
        print("compute-sanitizer is not here, or there is no GPU to look at")
        return EXIT_TOOL_ABSENT
    bad = 0
    for arm in ("paged_triton", "triton_contiguous"):
        command = ["compute-sanitizer", "--tool", "memcheck", "--error-exitcode", "9", sys.executable, "-m",
                   "scripts.visit.sanitizer", "--target", arm, "--device", arguments.device]  # fmt: skip
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=arguments.budget_s / 2)
        except subprocess.TimeoutExpired:
            print(f"{arm}: took longer than {arguments.budget_s / 2:.0f} s")
            bad += 1
            continue
        text = done.stdout + done.stderr
        (arguments.out / f"sanitizer-{arm}.txt").write_text(text, encoding="utf-8")
        print(f"{arm}: exit code {done.returncode}\n{text[-3000:]}")
        bad += done.returncode != 0
    return EXIT_VISIT_INCOMPLETE if bad else EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
