"""Merge the archives of a visit: ``python scripts/visit_to_reference.py visit.tar.gz [second.tar.gz]``.

Writes ``results/reference/<gpu>/`` with a run folder per sweep, a README with one table, and the
claims that need a GPU judged anew. Exit codes: 0 written. 2 bad input. 4 written, but rows were refused.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:] = [str(ROOT), *(path for path in sys.path if Path(path).resolve() != ROOT / "scripts")]


def main() -> int:
    """Exit with a code of the list above."""
    from bench.cli.command import run_command

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archives", type=Path, nargs="+", help="visit.tar.gz of each command, the earliest first")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "reference", help="gets a folder per device")
    parser.add_argument("--name", help="of that folder; default: the device's name")
    arguments = parser.parse_args()
    return run_command(lambda: merge(arguments.archives, arguments.out, arguments.name))


def merge(paths: list[Path], out: Path, name: str | None = None) -> int:
    """Write the reference. Returns the exit code.

    Args:
        paths: archives, the earliest first.
        out: gets the folder.
        name: of the folder. ``None``: the device's name.

    Raises:
        ValueError: an archive is not whole or not ours, or holds rows of two different cards.
    """
    from bench.cli.exits import EXIT_OK, EXIT_VISIT_INCOMPLETE
    from bench.rows.run_folder import display_path
    from scripts.visit.reference import read_sweeps, readme, slug, write_reference
    from scripts.visit.unpack import read_archive

    archives = [read_archive(path) for path in paths]
    sweeps = read_sweeps(archives)
    folder = out / (name or slug(next(iter(sweeps.values())).environment))
    write_reference(folder, sweeps, archives)
    facts = json.loads(next((files["facts/facts.json"] for files in archives if "facts/facts.json" in files), b"{}"))
    (folder / "README.md").write_text(readme(sweeps, facts, _claims(folder)), encoding="utf-8")
    taken, refused = (sum(len(part) for part in parts) for parts in
                      zip(*((sweep.rows, sweep.refused) for sweep in sweeps.values()), strict=True))  # fmt: skip
    print(f"{taken} rows of {len(sweeps)} sweeps, {refused} refused: {display_path(folder)}")
    return EXIT_VISIT_INCOMPLETE if refused else EXIT_OK


def _claims(folder: Path) -> str:
    """The claims that need a GPU and that a figure answers, judged on the merged rows, as a Markdown table."""
    from bench.reports.catalogue import all_figures
    from bench.reports.paper.judge import judge_all
    from bench.reports.paper.registry import CLAIMS, load_claims
    from bench.reports.paper.render import as_markdown
    from bench.reports.paper.runs import load_tables

    claims = [claim for claim in load_claims(CLAIMS) if claim.gpu]
    return as_markdown(judge_all(claims, load_tables(folder), all_figures()))


if __name__ == "__main__":
    sys.exit(main())
