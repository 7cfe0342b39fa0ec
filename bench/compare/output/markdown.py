"""A comparison as Markdown within a size limit, for a job summary or a comment on a pull request."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

from bench.compare.output.words import HEADINGS, banners, cells, count_line, headline, records, shown, trouble
from bench.compare.verdicts.comparison import Comparison
from bench.rows.neutral import for_markdown

SUMMARY_BYTES = 1024 * 1024
"""Size limit of ``$GITHUB_STEP_SUMMARY`` for one step."""

COMMENT_BYTES = 64_000
"""Size limit of a comment on a pull request."""

RESERVED_BYTES = 200
"""Space for the sentence that counts the cut lines."""


def markdown(comparison: Comparison, *, limit_bytes: int, everything: bool = False) -> str:
    """Return the comparison. Rows that do not fit are left out, and the text counts them."""
    how = "paired" if comparison.paired else "not interleaved"
    base, candidate = (for_markdown(str(comparison.sides[side]["name"])) for side in ("base", "candidate"))
    head = [
        f"## {for_markdown(headline(comparison))}",
        "",
        f"{candidate} against {base}, {how}. {count_line(comparison)}.",
        "",
        *(f"> {for_markdown(line)}\n" for line in banners(comparison)),
    ]
    lines = [f"- {for_markdown(line)}" for line in trouble(comparison)]
    rows = [_line(cells(row)) for row in records(shown(comparison, everything=everything))]
    table = [_line(HEADINGS), _line(["---"] * len(HEADINGS))] if rows else []
    text = "\n".join([*head, *table]) + "\n"
    room = limit_bytes - RESERVED_BYTES - len(text.encode())
    fitting = _fitting([*rows, "", *lines] if lines else rows, room)
    left_out = len(rows) + len(lines) + bool(lines) - len(fitting)
    text += "".join(f"{line}\n" for line in fitting)
    return text + (f"\n{left_out} more lines are left out here.\n" if left_out else "")


def _fitting(lines: list[str], room: int) -> list[str]:
    sizes = itertools.accumulate(len(line.encode()) + 1 for line in lines)
    return [line for line, size in zip(lines, sizes, strict=True) if size <= room]


def _line(texts: Iterable[str]) -> str:
    return f"| {' | '.join(for_markdown(text) for text in texts)} |"
