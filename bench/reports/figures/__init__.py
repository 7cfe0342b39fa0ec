"""Figures are pure functions of the table: a selection (its CSV) and a drawing of that selection.

A new figure is a ``FigureSpec`` in a module of this package, listed in ``FIGURES``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from bench.reports.figures.capacity import CAPACITY, MEMORY_LEVELS
from bench.reports.figures.churn import CHURN_OVER_TIME, CHURN_POLICIES
from bench.reports.figures.decode import DECODE_LATENCY
from bench.reports.figures.decode_heat import DECODE_HEAT
from bench.reports.figures.memory import ADMITTED, MEMORY_SPLIT
from bench.reports.figures.notebook import NOTEBOOK_CONCURRENCY, NOTEBOOK_EFFICIENCY, NOTEBOOK_PAGE_SIZE, NOTEBOOK_USED
from bench.reports.figures.style import FigureSpec, save
from bench.reports.paper.figures.allocation import PAPER_FIG02, PAPER_FIG13_QUEUE, PAPER_FIG18B_PAGES
from bench.reports.paper.figures.arithmetic import PAPER_FIG01, PAPER_FIG03, PAPER_FIG11, PAPER_TABLE1
from bench.reports.paper.figures.beyond import BEYOND_FIGURES
from bench.reports.paper.figures.gpu import PAPER_FIG18A, PAPER_FIG18B_KERNEL
from bench.reports.paper.figures.latency import LATENCY_FIGURES
from bench.reports.paper.figures.mooncake import MOONCAKE_HITS
from bench.reports.paper.figures.replay import REPLAY_FIGURES
from bench.reports.paper.figures.sensitivity import SENSITIVITY_FIGURES
from bench.reports.paper.figures.swap import PAPER_FIG19A

PAPER_FIGURES: tuple[FigureSpec, ...] = (
    PAPER_TABLE1,
    PAPER_FIG01,
    PAPER_FIG02,
    PAPER_FIG03,
    PAPER_FIG11,
    PAPER_FIG13_QUEUE,
    *LATENCY_FIGURES,
    *REPLAY_FIGURES,
    *SENSITIVITY_FIGURES,
    PAPER_FIG18A,
    PAPER_FIG18B_KERNEL,
    PAPER_FIG18B_PAGES,
    PAPER_FIG19A,
    *BEYOND_FIGURES,
    MOONCAKE_HITS,
)
"""What ``make paper`` draws, and what waits for a GPU."""

FIGURES: tuple[FigureSpec, ...] = (
    DECODE_LATENCY,
    DECODE_HEAT,
    MEMORY_SPLIT,
    ADMITTED,
    NOTEBOOK_EFFICIENCY,
    NOTEBOOK_USED,
    NOTEBOOK_PAGE_SIZE,
    NOTEBOOK_CONCURRENCY,
    CAPACITY,
    MEMORY_LEVELS,
    CHURN_OVER_TIME,
    CHURN_POLICIES,
    *PAPER_FIGURES,
)

__all__ = ["FIGURES", "PAPER_FIGURES", "FigureSpec", "draw_figures"]


def draw_figures(table: pd.DataFrame, folder: Path, only: Sequence[str] = ()) -> list[Path]:
    """Draw what the table has rows for; PNG, SVG and the CSV behind each.

    Args:
        table: rows of a run.
        folder: where to write; made if absent.
        only: names of figures; empty for all.

    Returns:
        The PNG files written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    chosen = [figure for figure in FIGURES if not only or figure.name in only]
    selections = [(figure, figure.select(table)) for figure in chosen]
    return [save(figure, selection, folder) for figure, selection in selections if not selection.empty]
