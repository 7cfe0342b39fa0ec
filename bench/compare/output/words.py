"""Texts that all output formats of a comparison share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from bench.cli.exits import EXIT_INCOMPLETE, EXIT_INCONCLUSIVE, EXIT_NOT_COMPARABLE, EXIT_OK, EXIT_REGRESSED
from bench.compare.verdicts.comparison import Comparison
from bench.compare.verdicts.join import COMPARED, FAILED, MISSING
from bench.compare.verdicts.rules import SAME, VERDICTS, unit_of
from bench.config.numbers import NO_VALUE, change_text, exact_size_text, number_text, percent_text

MEANING = {
    EXIT_OK: "nothing regressed",
    EXIT_REGRESSED: "regressed",
    EXIT_INCOMPLETE: "incomplete",
    EXIT_NOT_COMPARABLE: "not comparable",
    EXIT_INCONCLUSIVE: "inconclusive",
}

HEADINGS = ("verdict", "point", "metric", "base", "candidate", "change", "interval", "floor", "pairs", "sees", "reason")


def headline(comparison: Comparison) -> str:
    """Return the outcome in one line."""
    code = comparison.exit_code
    why = ""
    if code == EXIT_NOT_COMPARABLE:
        refused = comparison.machines.refused
        facts = ",".join(fact.partition(":")[0] for fact in refused)
        why = f": the machines differ ({', '.join(refused)}). --allow-mismatch={facts} compares their times anyway"
    elif comparison.is_empty:
        if not comparison.counts[COMPARED]:
            why = ": nothing was compared, no point matched"
        elif comparison.verdicts.empty:
            why = ": nothing was decided, the base measured none of the metrics to judge"
        else:
            why = ": nothing was decided, no metric had enough pairs"
    return f"{MEANING[code]} (exit {code}){why}"


def count_line(comparison: Comparison) -> str:
    """Return all counts in one line."""
    counts = comparison.counts
    verdicts = ", ".join(f"{counts[name]} {name}" for name in VERDICTS)
    points = f"{counts[COMPARED]} compared, {counts[MISSING]} missing, {counts[FAILED]} failed"
    more = "".join(f", {counts[name]} {name.replace('_', ' ')}" for name in ("not_run", "new") if counts[name])
    lost = f", {counts['lost']} metrics lost" if counts["lost"] else ""
    return f"points: {points}{more}. Verdicts: {verdicts}{lost}"


def banners(comparison: Comparison) -> list[str]:
    """Return the warnings above the table."""
    allowed = [f"differs, and was allowed to: {what}" for what in comparison.machines.allowed]
    refused = [f"times and bytes are not compared: {what}" for what in comparison.machines.refused]
    return [*refused, *allowed, *comparison.notes]


def trouble(comparison: Comparison) -> list[str]:
    """Return one line per point that is missing or failed."""
    points = comparison.points[comparison.points["outcome"].isin([MISSING, FAILED])]
    return [
        f"{outcome}: {point} ({why})"
        for outcome, point, why in zip(points["outcome"], points["point"], points["why"], strict=True)
    ]


def shown(comparison: Comparison, *, everything: bool) -> pd.DataFrame:
    """Return the verdicts to list, worst first, the means last. ``same`` is listed only with ``everything``."""
    rows = pd.concat([comparison.verdicts, comparison.means], ignore_index=True)
    is_mean = rows["key"].isin(comparison.means["key"]) if len(comparison.means) else rows["key"].ne(rows["key"])
    return rows if everything else rows[rows["verdict"].ne(SAME) | is_mean]


def cells(row: Mapping[str, Any]) -> list[str]:
    """Return one line of the table, under ``HEADINGS``."""
    return [
        row["verdict"],
        row["point"],
        row["metric"],
        value(row["metric"], row["base"]),
        value(row["metric"], row["candidate"]),
        change(row["ratio"]),
        interval(row),
        percent(row["floor"]),
        "" if pd.isna(row["pairs"]) else str(row["pairs"]),
        percent(row["detectable"]),
        row["reason"],
    ]


def value(metric: str, number: Any) -> str:
    """Return a value as text for people."""
    if number is None or pd.isna(number):
        return NO_VALUE
    if isinstance(number, str):
        return number if len(number) <= 16 else f"{number[:15]}…"
    return exact_size_text(number) if unit_of(metric) == "bytes" else number_text(number)


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return rows with plain values. Null is ``None``, because JSON has no NaN."""
    columns = {str(name): frame[name].astype(object).where(frame[name].notna(), None) for name in frame}
    return [
        dict(zip(columns, row, strict=True)) for row in zip(*(map(_plain, c) for c in columns.values()), strict=True)
    ]


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value


def change(ratio: Any) -> str:
    """Return a ratio as a signed percentage."""
    return "" if pd.isna(ratio) else change_text(ratio)


def interval(row: Mapping[str, Any]) -> str:
    """Return both ends of an interval as text."""
    if pd.isna(row["ratio_low"]):
        return ""
    return f"{change(row['ratio_low'])} … {change(row['ratio_high'])}"


def percent(fraction: Any) -> str:
    """Return a fraction as a percentage."""
    return "" if pd.isna(fraction) else f"± {percent_text(fraction)}"
