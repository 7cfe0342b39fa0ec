"""Download the published traces into traces/: ``python scripts/fetch_traces.py``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:] = [str(ROOT), *(path for path in sys.path if Path(path).resolve() != ROOT / "scripts")]

SHAREGPT = "sharegpt_8k_filtered_stats_llama2_tokenizer.csv"


def main() -> int:
    """Return 0, 2 for bad input, or 4 if a trace could not be downloaded."""
    from bench.cli.command import run_command

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dir", type=Path, default=ROOT / "traces", help="target folder (default: traces/)")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="only this trace (may be repeated)")
    parser.add_argument("--list", action="store_true", help="print every trace, its size, licence and source")
    parser.add_argument("--replace", action="store_true", help="overwrite files of that name with other content")
    parser.add_argument("--mirror", metavar="URL", help="download from this address instead, also verified")
    arguments = parser.parse_args()
    return run_command(lambda: _fetch(arguments))


def _fetch(arguments: argparse.Namespace) -> int:
    from bench.cli.exits import EXIT_OK, EXIT_TRACES_MISSING
    from bench.config import one_of
    from bench.workload.published.catalogue import TRACES
    from bench.workload.published.fetch import FetchError, fetch

    if arguments.list:
        for trace in TRACES:
            print(f"{trace.name:50}{trace.size_bytes:>9,} B  {trace.licence:11} {trace.cite}  {trace.url}")
        return 0
    for name in arguments.only:
        one_of(name, [trace.name for trace in TRACES], "--only")
    missing = 0
    for trace in TRACES:
        if arguments.only and trace.name not in arguments.only:
            continue
        try:
            source = trace.mirrored(arguments.mirror) if arguments.mirror else trace
            outcome = fetch(source, arguments.dir, replace=arguments.replace)
            print(f"{trace.name}: {outcome} ({trace.licence}, {trace.cite})")
        except (FetchError, OSError) as error:
            print(f"error: {error}", file=sys.stderr)
            missing += 1
        else:
            if trace.name == SHAREGPT:
                _derive(arguments.dir)
    return EXIT_TRACES_MISSING if missing else EXIT_OK


def _derive(folder: Path) -> None:
    """Derive lengths with the paper's means from the published ones."""
    from bench.workload.published.matched import write_matched

    source, target = folder / SHAREGPT, folder / "sharegpt_papermatched.csv"
    packed = source.with_name(f"{SHAREGPT}.gz")
    source = source if source.exists() else packed
    if not target.exists():
        write_matched(str(source), target)
        print(f"{target.name}: made from {source.name}, first turns resampled to the paper's means")


if __name__ == "__main__":
    sys.exit(main())
