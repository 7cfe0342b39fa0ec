"""Make a run folder of JSON from pytest-benchmark: ``python scripts/benchmark_to_run.py FILE_OR_FOLDER RUN_DIR``.

For instance, host-side speed of the policies, five processes for five replicates:

    for i in 1 2 3 4 5
    do python -m pytest tests/perf/test_policies.py -m perf -p no:xdist --benchmark-json=perf/$i.json
    done
    python scripts/benchmark_to_run.py perf results/runs/policies

Exit codes:
    0  written
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
    parser.add_argument("source", type=Path, help="a JSON file of pytest-benchmark, or a folder of them")
    parser.add_argument("run_dir", type=Path)
    arguments = parser.parse_args()
    return run_command(lambda: _convert(arguments.source, arguments.run_dir))


def _convert(source: Path, run_dir: Path) -> int:
    from bench.compare.benchmarks import is_benchmark, load_benchmarks, write_run

    if not is_benchmark(source):
        raise ValueError(f"{source} is no JSON file of pytest-benchmark, and no folder of them")
    side = load_benchmarks(source)
    write_run(side, run_dir)
    print(f"{len(side.planned)} benchmarks x {max(side.planned.values())} processes: {run_dir}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
