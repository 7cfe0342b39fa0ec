"""Run the points of the reference: ``python scripts/reference.py FOLDER``.

Then compare it with a committed one: ``python scripts/compare_runs.py results/reference/HARDWARE FOLDER --kind exact``.
If counters changed on purpose: ``python scripts/reference.py results/reference/HARDWARE --renew``, and commit it.

Exit codes:
    0  written
    1  internal error
    2  bad input
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:] = [str(ROOT), *(path for path in sys.path if Path(path).resolve() != ROOT / "scripts")]


def main() -> int:
    """Return the exit code, as listed above."""
    from bench.cli.command import run_command

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder for the run")
    parser.add_argument("--renew", action="store_true", help="replace the existing run by the new one")
    arguments = parser.parse_args()
    return run_command(lambda: _make(arguments.folder, renew=arguments.renew))


def _make(folder: Path, *, renew: bool) -> int:
    from bench.ab.reference import make_reference

    print(f"{make_reference(folder, renew=renew)} points: {folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
