"""Rewrite the generated parts of the documents: ``python scripts/update_docs.py`` (``--check`` only reports)."""

from __future__ import annotations

import argparse
import ast
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("impls", "config", "rows", "workload", "measure", "scenarios", "plan", "runner", "reports", "cli", "compare",
         "ab", "run", "scripts")  # fmt: skip
"""From the ground up: a room imports itself and the rooms before it."""
H200 = ROOT / "results" / "reference" / "nvidia-h200"
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


def measured_on_a_gpu() -> str:
    """Return a table of decode times of the flagship batch, and what paging and ragged lengths cost."""
    from scripts.visit.reference import read_reference
    from scripts.visit.table import flagship_lines

    sweeps = read_reference(H200)
    rows = [(name, row) for name, sweep in sweeps.items() for row in sweep.rows.values()]
    table = markdown_table(["implementation", "page", "µs", "GB/s", "of the read ceiling"],
                           [list(line) for line in flagship_lines(rows)])  # fmt: skip
    ours = {name: _decode_us(rows, name) for name in ("paged_triton", "triton_contiguous", "contiguous")}
    costs = {batch: us / ours["triton_contiguous"][batch] for batch, us in ours["paged_triton"].items()
             if batch in ours["triton_contiguous"]}  # fmt: skip
    flagship = costs[("flagship", 32, 262_144)]
    others = [cost for (sweep, *_), cost in costs.items() if sweep == "batch_length"]
    ragged = ("ragged", 256, 71_456)
    return (f"{table}\n\nPaging costs {flagship - 1:.0%} here (`paged_triton` against its kernel without pages, "
            f"`triton_contiguous`), and {min(others) - 1:.0%} to {max(others) - 1:.0%} on {len(others)} batches of "
            f"1 to 64\nsequences. A ragged batch (256 sequences, {ragged[2]:,} tokens) takes "
            f"{ours['paged_triton'][ragged]:.0f} µs on pages and {ours['contiguous'][ragged]:.0f} µs in padded regions "
            "(`contiguous`).")  # fmt: skip


def _decode_us(rows: Sequence[tuple[str, Mapping[str, Any]]], implementation: str) -> dict[tuple[str, int, int], float]:
    """Return times by sweep, sequences and tokens: no pages, or shuffled pages of 16."""
    from scripts.visit.table import options_of

    return {
        (sweep, row["num_seqs"], row["live_tokens"]): row["decode_us"]
        for sweep, row in rows
        if row["implementation"] == implementation and row["status"] == "ok" and row.get("decode_us")
        and (row["page_size"], row["page_layout"]) in ((None, None), (16, "shuffled")) and not options_of(row)
    }  # fmt: skip


def claims_on_a_gpu() -> str:
    """Return the claims that need a GPU, judged by the rows of an H200."""
    from scripts.visit_to_reference import claims_of

    return claims_of(H200).rstrip("\n")


def drawing_of_imports() -> str:
    """Return a matrix of the rooms: a room's row marks the rooms that it imports."""
    pairs = {(room_of(path), room) for path in _modules() for room in _imported_rooms(path)}
    width = max(map(len, ROOMS))
    lines = [" " * width + "  " + " ".join(ROOMS)]
    for row in ROOMS:
        marks = [("\\" if row == column else "●" if (row, column) in pairs else "").center(len(column))
                 for column in ROOMS]  # fmt: skip
        lines.append(f"{row:{width}}  {' '.join(marks)}".rstrip())
    return "\n".join(["```", *lines, "```"])


def _modules() -> list[Path]:
    found = (path for top in ("bench", "impls", "scripts") for path in sorted((ROOT / top).rglob("*.py")))
    return [path for path in found if path != ROOT / "bench" / "__init__.py"]  # the path of the repository


def room_of(path: Path) -> str:
    """Return the room of a module."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return parts[1] if parts[0] == "bench" else parts[0]


def _imported_rooms(path: Path) -> Iterator[str]:
    """Yield the rooms that a module imports. Imports in functions and for type checking count."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
        for top, *rest in (name.split(".") for name in names):
            if top in ROOMS:
                yield top
            elif top == "bench" and rest:
                yield rest[0]


GENERATED = {
    Path("docs/architecture.md"): {"imports": drawing_of_imports},
    Path("docs/columns.md"): {"columns": columns_by_topic},
    Path("README.md"): {"measured on a GPU": measured_on_a_gpu, "implementations": implementations_table},
    Path("results/paper_claims.md"): {"claims on a GPU": claims_on_a_gpu},
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
