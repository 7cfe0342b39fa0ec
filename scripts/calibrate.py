"""Measure the harness on this machine: timers, noise floors, ceilings. Later runs cite the written file."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:] = [str(ROOT), *(path for path in sys.path if Path(path).resolve() != ROOT / "scripts")]


def main() -> int:
    """Write ``results/calibration/<fingerprint>.json`` or ``--out``. Return 0, or 2 for bad input."""
    from bench.cli.command import run_command

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--runs", type=int, default=10, help="timings of identical work per timer and duration")
    parser.add_argument("--max-s", type=float, default=0.5, help="seconds per timing")
    parser.add_argument("--ceiling-bytes", type=int, default=2**30, help="bytes that the bandwidth measurements read")
    parser.add_argument("--out", type=Path, help="where to write")
    arguments = parser.parse_args()
    return run_command(lambda: _calibrate(arguments))


def _calibrate(arguments: argparse.Namespace) -> int:
    if arguments.runs < 2:
        raise ValueError(f"--runs {arguments.runs} must be at least 2")

    import torch

    from bench.config import MeasureConfig
    from bench.measure.calibration import calibrate
    from bench.rows.json_file import write_json
    from bench.runner.machine.environment import CALIBRATIONS, probe_device, record_environment

    if arguments.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device cuda, but torch finds no CUDA device here")
    found = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(found if arguments.device == "auto" else arguments.device)
    measure = MeasureConfig(name="calibration", timer="auto", warmup_ms=25, min_samples=20, max_s=arguments.max_s,
                            rel_half_width=0.002, ceiling_bytes=arguments.ceiling_bytes)  # fmt: skip
    environment = record_environment(probe_device({}).values, sys.argv)
    calibration = calibrate(device, measure, runs=arguments.runs)
    out = arguments.out or CALIBRATIONS / f"{environment['fingerprint']}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    write_json(out, {"schema_version": 1, "environment": environment, **calibration})
    show(calibration)
    print(os.path.relpath(out))
    return 0


def show(calibration: dict[str, Any]) -> None:
    ceilings = calibration["ceilings"]
    print(f"read {ceilings['read_gbps']:.1f} GB/s, copy {ceilings['copy_gbps']:.1f} GB/s")
    for entry, agreed in zip(calibration["noise"], calibration["agreement"], strict=True):
        print(f"{entry['timer']:14}{entry['target_us']:8g} µs target{entry['median_us']:12.2f} µs measured"
              f"   A/A {entry['aa_floor_ratio']:.2%}   of first timer {agreed['ratio']:.3f}")  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
