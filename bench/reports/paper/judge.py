"""Compute verdicts from claims and rows. All functions are pure functions of the table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import pandas as pd

from bench.config.numbers import number_text
from bench.reports.figures.style import FigureSpec
from bench.reports.paper.registry import STAND_IN, AnswerCells, Claim

CLAIM_VERDICTS: Final = ("reproduced", "reproduced (modelled)", "by construction", "differs", "not run", "disputed")


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The verdict on one claim.

    Attributes:
        claim: the claim.
        ours: our number, the ends of our range, or ``None``.
        verdict: one of ``CLAIM_VERDICTS``.
        reason: the reason, in words.
        basis: source of the lengths behind our number, where it matters.
    """

    claim: Claim
    ours: float | tuple[float, float] | None
    verdict: str
    reason: str
    basis: str = ""


def judge_all(claims: Iterable[Claim], table: pd.DataFrame, figures: Sequence[FigureSpec]) -> list[Verdict]:
    """Return a verdict for every claim, in order.

    Args:
        claims: claims of papers.
        table: rows of one run or of several.
        figures: those that may answer a claim.

    Raises:
        ValueError: a claim is answered by a figure that is not among these.
    """
    claims = list(claims)
    wanted = {claim.answer.figure for claim in claims if claim.answer is not None}
    unknown = wanted - {figure.name for figure in figures}
    if unknown:
        raise ValueError(f"claims answer from figures that do not exist: {', '.join(sorted(unknown))}")
    frames = {figure.name: figure.select(table) for figure in figures if figure.name in wanted}
    return [judge(claim, frames.get(claim.answer.figure) if claim.answer else None) for claim in claims]


def judge(claim: Claim, frame: pd.DataFrame | None) -> Verdict:
    """Return the verdict on one claim.

    Args:
        claim: the claim.
        frame: frame of the figure that answers it. ``None`` or empty if there are no rows.

    Raises:
        ValueError: the frame has no such column, or its rows disagree where one number is expected.
    """
    rows = pd.DataFrame() if frame is None or frame.empty or claim.answer is None else _rows(claim, claim.answer, frame)
    if rows.empty or claim.answer is None:
        return Verdict(claim=claim, ours=None, verdict="not run", reason=_how_to_run(claim))
    ours = _reduced(claim, claim.answer, rows)
    low, high = claim.allowed
    least, most = ours if isinstance(ours, tuple) else (ours, ours)
    agrees = low <= least and most <= high
    basis = ", ".join(dict.fromkeys(rows["lengths"])) if "lengths" in rows else ""
    verdict, reason = _verdict(claim, agrees)
    return Verdict(claim=claim, ours=ours, verdict=verdict, reason=reason, basis=basis)


def _rows(claim: Claim, answer: AnswerCells, frame: pd.DataFrame) -> pd.DataFrame:
    """Return the rows that answer the claim, on real lengths if there are any. Empty if nothing was measured."""
    for column in (*answer.where, answer.value):
        if column not in frame:
            raise ValueError(f"claim {claim.id}: figure {answer.figure} has no column {column}")
    chosen = frame[answer.value].notna()
    for column, value in answer.where.items():
        chosen &= frame[column].eq(value)
    rows = frame[chosen]
    if "lengths" in rows and (real := rows[rows["lengths"] != STAND_IN]).size:
        return real
    return rows


def _reduced(claim: Claim, answer: AnswerCells, rows: pd.DataFrame) -> float | tuple[float, float]:
    values = rows[answer.value].astype(float)
    if answer.over == "max":
        return float(values.max())
    if answer.over == "range":
        return float(values.min()), float(values.max())
    if answer.over == "all":
        return float(values.mean())
    if values.nunique() > 1:
        raise ValueError(f"claim {claim.id}: {len(values)} rows of {answer.figure} answer it, and they do not agree")
    return float(values.iloc[0])


def _verdict(claim: Claim, agrees: bool) -> tuple[str, str]:
    low, high = claim.allowed
    allowed = f"between {number_text(low)} and {number_text(high)}" if low < high else f"exactly {number_text(low)}"
    why = f": {claim.tolerance.why}" if claim.tolerance is not None else ": the printed range"
    if not agrees:
        verdict = "disputed" if claim.disputed else "differs"
        return verdict, claim.disputed or claim.if_differs or f"not {allowed}{why}"
    if claim.kind == "construction":
        return "by construction", claim.if_differs or f"the workload was built to match this number, {allowed}{why}"
    return ("reproduced (modelled)" if claim.kind == "modelled" else "reproduced"), f"{allowed}{why}"


def _how_to_run(claim: Claim) -> str:
    needs = " (needs a GPU)" if claim.gpu else ""
    return f"no rows; run{needs}: {claim.run}" if claim.answer is not None else claim.run
