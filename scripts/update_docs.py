"""Rewrite the generated parts of the documents: ``python scripts/update_docs.py`` (``--check`` only tells)."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:] = [str(ROOT), *(path for path in sys.path if Path(path).resolve() != ROOT / "scripts")]


def columns_table() -> str:
    """Every column of a row as a Markdown table."""
    from bench.rows.columns import COLUMNS

    return markdown_table(
        ["column", "kind", "better", "meaning"],
        [[f"`{column.name}`", column.kind, column.better or "", column.meaning] for column in COLUMNS],
    )


def markdown_table(headings: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def implementations_table() -> str:
    """Every implementation of ``conf/impl/`` as a Markdown table."""
    import importlib

    import yaml

    rows = []
    for path in sorted((ROOT / "conf" / "impl").glob("*.yaml")):
        conf = yaml.safe_load(path.read_text())
        module, _, name = conf["target"].rpartition(".")
        doc = (getattr(importlib.import_module(module), name).__doc__ or "").strip().split("\n\n")[0]
        rows.append(
            [f"`{conf['name']}`", ", ".join(conf["policies"]), ", ".join(conf["devices"]), " ".join(doc.split())]
        )
    return markdown_table(["implementation", "stands on", "devices", "what it is"], rows)


GENERATED = {
    Path("results/README.md"): {"columns": columns_table},
    Path("README.md"): {"implementations": implementations_table},
}


def regenerated(path: Path) -> str:
    """The document with its generated parts made anew."""
    text = (ROOT / path).read_text(encoding="utf-8")
    for name, make in GENERATED[path].items():
        begin, end = f"<!-- generated: {name} -->\n", "<!-- end -->"
        before, mark, rest = text.partition(begin)
        if not mark or end not in rest:
            raise ValueError(f"{path} must hold {begin.strip()} and {end}")
        text = f"{before}{begin}{make()}\n{end}{rest.partition(end)[2]}"
    return text


def main() -> int:
    """Exit 0, or 1 if ``--check`` found a stale document."""
    from bench.cli.exits import EXIT_OK, EXIT_STALE

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if a document is stale")
    check = parser.parse_args().check
    stale = [path for path in GENERATED if regenerated(path) != (ROOT / path).read_text(encoding="utf-8")]
    for path in stale:
        print(f"{path} is stale" if check else f"rewrote {path}")
        if not check:
            (ROOT / path).write_text(regenerated(path), encoding="utf-8")
    return EXIT_STALE if stale and check else EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
