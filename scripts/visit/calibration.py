"""``scripts/calibrate.py`` in a short form: timers, noise floors and ceilings of this machine."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path


def main() -> int:
    """Exit with its code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--budget-s", type=float, default=100.0)
    parser.add_argument("--small", action="store_true")
    arguments = parser.parse_args()
    brief = ["--runs", "2", "--max-s", "0", "--ceiling-bytes", str(2**24)] if arguments.small else [
        "--runs", "4", "--max-s", "0.2"]  # fmt: skip
    return subprocess.run(
        [sys.executable, "scripts/calibrate.py", "--device", arguments.device,
         "--out", str(arguments.out / "calibration.json"), *brief], check=False).returncode  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
