"""Rewrite the generated parts of the documents: ``python scripts/update_docs.py`` (``--check`` only reports)."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:] = [str(ROOT), *(path for path in sys.path if Path(path).resolve() != ROOT / "scripts")]


def columns_by_topic() -> str:
    """Return one Markdown table of columns per topic, each under a heading of its own."""
    from bench.rows.columns import TOPICS, Column

    def cells(column: Column) -> list[str]:
        heading = f"{column.printed} ({', '.join(column.tables)})" if column.tables else ""
        scenarios = ", ".join(column.scenarios)
        return [f"`{column.name}`", column.kind, column.better or "", column.unit, heading, scenarios, column.meaning]

    headings = ["column", "kind", "better", "unit", "printed as (in)", "scenarios", "meaning"]
    tables = (markdown_table(headings, [cells(column) for column in topic.columns]) for topic in TOPICS)
    return "\n\n".join(f"## {topic.title}\n\n{table}" for topic, table in zip(TOPICS, tables, strict=True))


def markdown_table(headings: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def implementations_table() -> str:
    """Return a Markdown table of the implementations of ``conf/impl/``."""
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
    return markdown_table(["implementation", "policies", "devices", "what it is"], rows)


GENERATED = {
    Path("docs/columns.md"): {"columns": columns_by_topic},
    Path("README.md"): {"implementations": implementations_table},
}


def regenerated(path: Path) -> str:
    """Return the document with its generated parts made anew.

    Raises:
        ValueError: the document lacks the marks around a generated part.
    """
    text = (ROOT / path).read_text(encoding="utf-8")
    for name, make in GENERATED[path].items():
        begin, end = f"<!-- generated: {name} -->\n", "<!-- end -->"
        before, mark, rest = text.partition(begin)
        if not mark or end not in rest:
            raise ValueError(f"{path} must hold {begin.strip()} and {end}")
        text = f"{before}{begin}{make()}\n{end}{rest.partition(end)[2]}"
    return text


def main() -> int:
    """Return 0, or 1 if ``--check`` found a stale document."""
    from bench.cli.exits import EXIT_OK, EXIT_STALE

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing, and exit 1 if a document is stale")
    check = parser.parse_args().check
    stale = [path for path in GENERATED if regenerated(path) != (ROOT / path).read_text(encoding="utf-8")]
    for path in stale:
        print(f"{path} is stale" if check else f"rewrote {path}")
        if not check:
            (ROOT / path).write_text(regenerated(path), encoding="utf-8")
    return EXIT_STALE if stale and check else EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
