"""Merge the archives of a visit: ``python scripts/visit_to_reference.py visit.tar.gz [second.tar.gz]``.

Writes ``results/reference/<gpu>/`` with a run folder per sweep, a README with one table, and the
claims that need a GPU judged anew. ``--readme results/reference/<gpu>`` renews the README alone, from
the committed rows. Exit codes: 0 written. 2 bad input. 4 written, but rows were refused.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:] = [str(ROOT), *(path for path in sys.path if Path(path).resolve() != ROOT / "scripts")]


def main() -> int:
    """Exit with a code of the list above."""
    from bench.cli.command import run_command

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archives", type=Path, nargs="*", help="visit.tar.gz of each command, the earliest first")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "reference", help="gets a folder per device")
    parser.add_argument("--name", help="of that folder; default: the device's name")
    parser.add_argument("--readme", type=Path, metavar="FOLDER", help="renew the README of this reference")
    arguments = parser.parse_args()
    return run_command(lambda: _run(arguments))


def _run(arguments: argparse.Namespace) -> int:
    from bench.cli.exits import EXIT_OK

    if bool(arguments.archives) == bool(arguments.readme):
        raise ValueError("give either the archives of a visit or --readme FOLDER")
    if arguments.archives:
        return merge(arguments.archives, arguments.out, arguments.name)
    (arguments.readme / "README.md").write_text(readme_of(arguments.readme), encoding="utf-8")
    return EXIT_OK


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
    from scripts.visit.reference import read_sweeps, slug, write_reference
    from scripts.visit.unpack import read_archive

    archives = [read_archive(path) for path in paths]
    sweeps = read_sweeps(archives)
    folder = out / (name or slug(next(iter(sweeps.values())).environment))
    write_reference(folder, sweeps, archives)
    _draw(folder)
    (folder / "README.md").write_text(readme_of(folder), encoding="utf-8")
    taken, refused = (sum(len(part) for part in parts) for parts in
                      zip(*((sweep.rows, sweep.refused) for sweep in sweeps.values()), strict=True))  # fmt: skip
    print(f"{taken} rows of {len(sweeps)} sweeps, {refused} refused: {display_path(folder)}")
    return EXIT_VISIT_INCOMPLETE if refused else EXIT_OK


def readme_of(folder: Path) -> str:
    """Return the README of a reference, made from its rows.

    Raises:
        ValueError: the folder holds no sweep, or a row that is not whole.
    """
    from scripts.visit.reference import FIGURE, kept_folders, read_reference, readme

    facts = json.loads(path.read_text(encoding="utf-8")) if (path := folder / "facts.json").exists() else {}
    figure = FIGURE if (folder / FIGURE).exists() else ""
    return readme(read_reference(folder), facts, claims_of(folder), figure=figure, others=kept_folders(folder))


def _draw(folder: Path) -> None:
    """Draw the decode step by page size, if that sweep was measured."""
    from bench.reports.catalogue import draw_figures
    from bench.rows.table import load_rows
    from scripts.visit.reference import FIGURE

    if not (folder / "fig18b").is_dir():
        return
    with tempfile.TemporaryDirectory() as scratch:
        for path in draw_figures(load_rows(folder / "fig18b"), Path(scratch), ["decode_latency"]):
            if path.name == FIGURE:
                shutil.copy(path, folder / FIGURE)


def claims_of(folder: Path) -> str:
    """Return the claims that need a GPU and that a figure answers, judged on the merged rows, as a Markdown table."""
    from bench.reports.catalogue import all_figures
    from bench.reports.paper.judge import judge_all
    from bench.reports.paper.registry import CLAIMS, load_claims
    from bench.reports.paper.render import as_markdown
    from bench.reports.paper.runs import load_tables

    claims = [claim for claim in load_claims(CLAIMS) if claim.gpu]
    return as_markdown(judge_all(claims, load_tables(folder), all_figures()))


if __name__ == "__main__":
    sys.exit(main())
