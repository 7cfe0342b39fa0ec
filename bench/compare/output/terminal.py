"""Print a comparison on a terminal, worst first."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.compare.output.words import HEADINGS, banners, cells, count_line, headline, records, shown, trouble
from bench.compare.verdicts.comparison import Comparison
from bench.compare.verdicts.rules import IMPROVED, INCONCLUSIVE, INSUFFICIENT, REGRESSED
from bench.rows.neutral import for_terminal
from bench.runner.progress import PLAIN_WIDTH

STYLES = {REGRESSED: "bold red", IMPROVED: "green", INCONCLUSIVE: "yellow", INSUFFICIENT: "yellow"}

MOST_ROWS = 60
"""Most rows of a table on a terminal. The files have all rows."""


def show(comparison: Comparison, *, everything: bool) -> None:
    """Print banners, the table, what is missing, the counts and the outcome."""
    console = Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH)
    for line in banners(comparison):
        console.print(for_terminal(f"note: {line}"), markup=False, highlight=False, soft_wrap=True)
    rows = shown(comparison, everything=everything)
    # The means are at the end, and a cut must not lose them.
    means = rows["key"].isin(comparison.means["key"])
    listed = rows[~means] if everything else rows[~means].head(MOST_ROWS)
    table = Table(*HEADINGS)
    for frame in (listed, rows[means]):
        for row in records(frame):
            table.add_row(*[Text(for_terminal(cell)) for cell in cells(row)], style=STYLES.get(row["verdict"]))
    if table.row_count:
        console.print(table)
    cut = int((~means).sum()) - len(listed)
    lines = [f"{cut} more rows are not shown. --all shows them"] if cut else []
    for line in [*lines, *_first(trouble(comparison)), count_line(comparison), headline(comparison)]:
        console.print(for_terminal(line), markup=False, highlight=False, soft_wrap=True)


def _first(lines: list[str]) -> list[str]:
    cut = len(lines) - MOST_ROWS
    return lines if cut <= 0 else [*lines[:MOST_ROWS], f"{cut} more points are missing or failed"]
