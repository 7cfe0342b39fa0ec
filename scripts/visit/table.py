"""One table of a visit: achieved bandwidth, share of the ceiling, ratio to the fastest other implementation. Pure."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

HEADINGS = (
    "sweep",
    "implementation",
    "page",
    "layout",
    "seqs",
    "tokens",
    "us",
    "GB/s",
    "of ceiling",
    "to fastest other",
)
SHOWN = (("triton_contiguous", None), ("contiguous", None), ("paged_flashinfer", 16), ("paged_triton", 16),
         ("paged_triton", 1), ("paged_torch", 16))  # fmt: skip
"""Implementations and page sizes in the table of the main README."""


def compared(rows: Iterable[tuple[str, Mapping[str, Any]]]) -> list[tuple[str, ...]]:
    """Return a line per decode row that is ok: by sweep, batch and tokens, the fastest of a batch first.

    Args:
        rows: sweep and row.
    """
    batches: dict[tuple[Any, ...], list[Mapping[str, Any]]] = defaultdict(list)
    for sweep, row in rows:
        if row["status"] == "ok" and row.get("decode_us"):
            batches[(sweep, row["attention_shape"], row["num_seqs"], row["batch_digest"])].append(row)
    lines = []
    for (sweep, *_), batch in sorted(batches.items(), key=_batch_order):
        for row in sorted(batch, key=lambda row: row["decode_us"]):
            lines.append(_line(sweep, row, _fastest_other(row, batch)))
    return lines


def _batch_order(item: tuple[tuple[Any, ...], list[Mapping[str, Any]]]) -> tuple[Any, ...]:
    (sweep, shape, num_seqs, _), batch = item
    return sweep, shape, num_seqs, batch[0].get("live_tokens") or 0


def _fastest_other(row: Mapping[str, Any], batch: Iterable[Mapping[str, Any]]) -> float | None:
    """Microseconds of the fastest row of another implementation on the same batch."""
    others = [other["decode_us"] for other in batch if other["implementation"] != row["implementation"]]
    return min(others, default=None)


def _line(sweep: str, row: Mapping[str, Any], other_us: float | None) -> tuple[str, ...]:
    ratio = row.get("ceiling_ratio")
    gbps = row.get("achieved_gbps")
    return (
        sweep,
        " ".join([str(row["implementation"]), *options_of(row)]),
        _text(row["page_size"]),
        _text(row["page_layout"]),
        _text(row["num_seqs"]),
        _text(row.get("live_tokens")),
        f"{row['decode_us']:.1f}",
        "–" if gbps is None else f"{gbps:.0f}",
        "–" if ratio is None else f"{ratio:.1%}",
        "–" if other_us is None else f"{row['decode_us'] / other_us:.2f}",
    )


def options_of(row: Mapping[str, Any]) -> list[str]:
    """Return the options of the implementation that the row's command sets.

    >>> options_of({"repro_command": "python bench/run.py -m impl=a +impl.options.kv_layout=HND page_size=16"})
    ['kv_layout=HND']
    """
    return re.findall(r"impl\.options\.(\w+=\S+)", str(row.get("repro_command") or ""))


def _text(value: Any) -> str:
    return "–" if value is None else str(value)


def as_markdown(lines: Iterable[tuple[str, ...]]) -> str:
    """The lines as a Markdown table. ``None.`` without lines."""
    lines = list(lines)
    if not lines:
        return "None.\n"
    table = [HEADINGS, ("---",) * len(HEADINGS), *lines]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in table)


def flagship_lines(rows: Iterable[tuple[str, Mapping[str, Any]]]) -> list[tuple[str, ...]]:
    """Return the lines that the main README shows, of ``SHOWN`` with shuffled pages and no options, fastest first.

    Args:
        rows: sweep and row. Where two sweeps measured the same, the row of ``flagship`` counts.
    """
    found: dict[tuple[str, int | None], Mapping[str, Any]] = {}
    for sweep in ("flagship", "flashinfer"):
        for name, row in rows:
            which = (row["implementation"], row["page_size"])
            shuffled = row["page_layout"] in (None, "shuffled") and not options_of(row)
            if name == sweep and row["status"] == "ok" and shuffled and which in SHOWN:
                found.setdefault(which, row)
    fastest = sorted(found.values(), key=lambda row: row["decode_us"])
    return [(f"`{row['implementation']}`", *_line("", row, None)[2:3], *_line("", row, None)[6:9]) for row in fastest]


def as_text(lines: Iterable[tuple[str, ...]]) -> str:
    """The lines as aligned text."""
    table = [HEADINGS, *lines]
    widths = [max(len(line[column]) for line in table) for column in range(len(HEADINGS))]
    return "".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() + "\n"
                   for line in table)  # fmt: skip
