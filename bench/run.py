"""The entry point: ``python bench/run.py -m page_size=4,16,64`` or ``python -m bench.run``."""

from __future__ import annotations

import sys
from pathlib import Path


def main() -> None:
    """Put the repository first on the import path, then hand over."""
    script_folder = Path(__file__).resolve().parent
    root = str(script_folder.parent)
    # A script's own folder on sys.path would let bench/*.py shadow the standard library.
    sys.path[:] = [root, *(p for p in sys.path if p != root and Path(p).resolve() != script_folder)]
    from bench.cli.main import main as run

    run()


if __name__ == "__main__":
    main()
