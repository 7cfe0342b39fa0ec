"""Print the state of a running or dead sweep from its files: ``python scripts/show_run.py results/runs/latest``."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:] = [str(ROOT), *(path for path in sys.path if Path(path).resolve() != ROOT / "scripts")]


def main() -> int:
    """Return 0 if every planned row exists, 4 if some are missing or failed, 2 for bad input."""
    from bench.cli.command import run_command

    parser = argparse.ArgumentParser(description=__doc__)
    latest = ROOT / "results" / "runs" / "latest"
    parser.add_argument("run_dir", type=Path, nargs="?", default=latest, help="run folder (default: the newest)")
    parser.add_argument("--watch", action="store_true", help="update it until no job is running")
    parser.add_argument(
        "--every", type=float, default=2.0, metavar="S", help="seconds between two updates (default: 2)"
    )
    arguments = parser.parse_args()
    return run_command(lambda: _show(arguments))


def _show(arguments: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.live import Live

    from bench.cli.status import read_state, render

    console = Console()
    state = read_state(arguments.run_dir)
    if not arguments.watch:
        console.print(render(state))
        return state.exit_code
    with Live(render(state), console=console) as live:
        while state.running:
            time.sleep(arguments.every)
            state = read_state(arguments.run_dir)
            live.update(render(state))
    return state.exit_code


if __name__ == "__main__":
    sys.exit(main())
