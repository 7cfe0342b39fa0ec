"""Nsight Compute on one decode step of the flagship batch: memory throughput, stalls, occupancy.

``python -m scripts.visit.profile --out DIR`` runs ``ncu`` on ``python -m scripts.visit.profile --target ARM``.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

from bench.cli.exits import EXIT_OK, EXIT_TOOL_ABSENT, EXIT_VISIT_INCOMPLETE

SECTIONS = ("SpeedOfLight", "MemoryWorkloadAnalysis", "Occupancy", "LaunchStats", "WarpStateStats", "SchedulerStats")


def target(arm: str, device: str) -> None:
    """Decode the flagship batch a few times, for ncu to look at."""
    import torch

    from scripts.visit.cases import FLAGSHIP, draw, make_cache, write

    cache = make_cache(FLAGSHIP, arm, device)
    query, keys, values = draw(FLAGSHIP, device)
    write(cache, keys, values)
    batch = cache.prepare(range(len(FLAGSHIP.lens)))
    for _ in range(3):
        cache.decode(0, query, batch)
    torch.cuda.synchronize()


def command(arm: str, device: str) -> list[str]:
    """Ncu on one arm. The clocks stay as they are."""
    sections = [word for section in SECTIONS for word in ("--section", section)]
    return ["ncu", "--clock-control", "none", "--target-processes", "all", "--kernel-name", "regex:decode",
            "--launch-skip", "1", "--launch-count", "1", *sections,
            sys.executable, "-m", "scripts.visit.profile", "--target", arm, "--device", device]  # fmt: skip


def main() -> int:
    """Exit 0 if ncu reported on an arm, 3 without ncu, 4 if it failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--budget-s", type=float, default=40.0)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--target")
    arguments = parser.parse_args()
    if arguments.target:
        target(arguments.target, arguments.device)
        return EXIT_OK
    if shutil.which("ncu") is None or arguments.device == "cpu":
        print("ncu is not here, or there is no GPU to look at")
        return EXIT_TOOL_ABSENT
    good = 0
    for arm in ("paged_triton", "triton_contiguous"):
        try:
            done = subprocess.run(command(arm, arguments.device), capture_output=True, text=True, check=False,
                                  timeout=arguments.budget_s / 2)  # fmt: skip
        except subprocess.TimeoutExpired:
            print(f"{arm}: ncu took longer than {arguments.budget_s / 2:.0f} s")
            continue
        text = done.stdout + done.stderr
        (arguments.out / f"ncu-{arm}.txt").write_text(text, encoding="utf-8")
        print(text[-5000:])
        good += done.returncode == 0 and "DRAM" in text
    return EXIT_OK if good else EXIT_VISIT_INCOMPLETE


if __name__ == "__main__":
    sys.exit(main())
