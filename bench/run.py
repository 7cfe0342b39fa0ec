"""The command of the benchmark: ``python bench/run.py -m page_size=4,16,64`` or ``python -m bench.run``."""

from __future__ import annotations

import sys
from pathlib import Path


def main() -> None:
    """Put the repository first on the import path, then call ``bench.cli.main``."""
    script_folder = Path(__file__).resolve().parent
    root = str(script_folder.parent)
    # Python puts the folder of a script on sys.path. There, modules of bench/ would hide those of the standard library.
    sys.path[:] = [root, *(p for p in sys.path if p != root and Path(p).resolve() != script_folder)]
    from bench.cli.main import main as run

    run()


if __name__ == "__main__":
    main()
