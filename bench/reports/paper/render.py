"""Verdicts as text, Markdown and JSON."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence

from rich.table import Table

from bench.config.numbers import NO_VALUE, change_text, number_text
from bench.reports.paper.judge import CLAIM_VERDICTS, Verdict

COLOURS = {"reproduced": "green", "reproduced (modelled)": "green", "by construction": "cyan", "differs": "red",
           "disputed": "yellow", "not run": "dim"}  # fmt: skip


def as_json(verdicts: Sequence[Verdict]) -> str:
    """Return one JSON list: id, paper, figure, printed, ours, verdict, reason, and more, per claim."""
    return json.dumps([_plain(verdict) for verdict in verdicts], indent=1, ensure_ascii=False, allow_nan=False)


def _plain(verdict: Verdict) -> dict[str, object]:
    claim = verdict.claim
    return {
        "id": claim.id,
        "paper": claim.paper,
        "figure": claim.figure,
        "claim": claim.claim,
        "unit": claim.unit,
        "printed": claim.printed,
        "ours": verdict.ours,
        "verdict": verdict.verdict,
        "reason": verdict.reason,
        "basis": verdict.basis,
        "kind": claim.kind,
        "gpu": claim.gpu,
        "disputed": claim.disputed or None,
        "source": claim.source,
    }


def cells(verdict: Verdict) -> list[str]:
    """Return id, figure, claim, printed, ours, difference and verdict as text for people."""
    claim = verdict.claim
    return [
        claim.id,
        f"{claim.paper}, {claim.figure}",
        claim.claim,
        f"{printed_number(claim.printed)} {claim.unit}",
        printed_number(verdict.ours),
        difference(verdict),
        verdict.verdict,
    ]


HEADINGS = ("id", "where", "claim", "printed", "ours", "difference", "verdict")


def printed_number(value: float | tuple[float, float] | None) -> str:
    """Return a number or a range as text, to four digits.

    >>> printed_number((1.7, 2.66)), printed_number(15729), printed_number(None)
    ('1.7–2.66', '15,729', '–')
    """
    if value is None:
        return NO_VALUE
    return "–".join(dict.fromkeys(map(number_text, value if isinstance(value, tuple) else (value,))))


def difference(verdict: Verdict) -> str:
    """Return the difference in percent of the printed number, or in points if the number is a share in percent."""
    printed, ours = verdict.claim.printed, verdict.ours
    if ours is None or isinstance(printed, tuple) or isinstance(ours, tuple):
        return ""
    if verdict.claim.unit.startswith("%"):
        return f"{ours - printed:+.1f} points"
    return change_text(ours / printed)


def summary(verdicts: Sequence[Verdict]) -> str:
    """Return the number of each verdict as text."""
    counts = Counter(verdict.verdict for verdict in verdicts)
    return ", ".join(f"{counts[name]} {name}" for name in CLAIM_VERDICTS if counts[name])


def as_table(verdicts: Sequence[Verdict]) -> Table:
    """Return a table for a terminal."""
    table = Table(show_lines=False)
    for heading in HEADINGS[1:]:
        table.add_column(heading, justify="right" if heading in ("ours", "difference") else "left")
    for verdict in verdicts:
        *texts, word = cells(verdict)[1:]
        table.add_row(*texts, f"[{COLOURS[verdict.verdict]}]{word}[/]")
    return table


def as_markdown(verdicts: Sequence[Verdict]) -> str:
    """Return a table for a README, and the reasons of claims that differ or are disputed."""
    headings = [heading for heading in HEADINGS if heading != "id"]
    lines = [headings, ["---"] * len(headings), *(cells(verdict)[1:] for verdict in verdicts)]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    reasons = [
        f"- {verdict.claim.figure}, {verdict.claim.claim} *{verdict.verdict}*: {verdict.reason}"
        for verdict in verdicts
        if verdict.verdict in ("differs", "disputed")
    ]
    return "\n".join([table, "", summary(verdicts) + ".", "", *reasons]) + "\n"
