"""The catalogue of figures. A figure's module is imported only for a table with rows of its scenario.

A new figure is a ``FigureSpec`` in a module of ``figures/`` or ``paper/figures/``, and one line here.
"""

from __future__ import annotations

import importlib
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pandas as pd

if TYPE_CHECKING:
    from bench.reports.figures.style import FigureSpec

ANY: Final = "any"

GENERAL: Final = (
    ("figures.decode:DECODE_LATENCY", "decode"),
    ("figures.decode_heat:DECODE_HEAT", "decode"),
    ("figures.memory:MEMORY_SPLIT", ANY),
    ("figures.memory:ADMITTED", "decode"),
    ("figures.notebook:NOTEBOOK_EFFICIENCY", "notebook"),
    ("figures.notebook:NOTEBOOK_USED", "notebook"),
    ("figures.notebook:NOTEBOOK_PAGE_SIZE", "notebook"),
    ("figures.notebook:NOTEBOOK_CONCURRENCY", "notebook"),
    ("figures.capacity:CAPACITY", "capacity"),
    ("figures.capacity:MEMORY_LEVELS", "capacity"),
    ("figures.churn:CHURN_OVER_TIME", "churn"),
    ("figures.churn:CHURN_POLICIES", "churn"),
)
"""Module and name of a figure, or of a tuple of figures, and the scenario of its rows."""

PAPER: Final = (
    ("paper.figures.arithmetic:PAPER_TABLE1", "capacity"),
    ("paper.figures.arithmetic:PAPER_FIG01", "capacity"),
    ("paper.figures.allocation:PAPER_FIG02", "churn"),
    ("paper.figures.arithmetic:PAPER_FIG03", "capacity"),
    ("paper.figures.arithmetic:PAPER_FIG11", "lengths"),
    ("paper.figures.allocation:PAPER_FIG13_QUEUE", "churn"),
    ("paper.figures.latency:LATENCY_FIGURES", "serving"),
    ("paper.figures.replay:REPLAY_FIGURES", "serving"),
    ("paper.figures.sensitivity:SENSITIVITY_FIGURES", "serving"),
    ("paper.figures.gpu:PAPER_FIG18A", "decode"),
    ("paper.figures.gpu:PAPER_FIG18B_KERNEL", "decode"),
    ("paper.figures.allocation:PAPER_FIG18B_PAGES", "churn"),
    ("paper.figures.swap:PAPER_FIG19A", "swap"),
    ("paper.figures.beyond:BEYOND_FIGURES", "serving"),
    ("paper.figures.mooncake:MOONCAKE_HITS", "prefix_cache"),
)
"""Module and name of the figures that ``make paper`` draws, and of those of the paper that need a GPU."""


def all_figures(scenarios: Collection[str] | None = None) -> tuple[FigureSpec, ...]:
    """Return the figures that rows of these scenarios can answer, in printed order.

    Args:
        scenarios: names of scenarios. ``None`` for all.
    """
    return _loaded((*GENERAL, *PAPER), scenarios)


def paper_figures() -> tuple[FigureSpec, ...]:
    """Return the figures of the PagedAttention paper, and those beyond it that ``make paper`` draws."""
    return _loaded(PAPER, None)


def draw_figures(table: pd.DataFrame, folder: Path, only: Sequence[str] = ()) -> list[Path]:
    """Draw every figure that the table has rows for, as PNG and SVG beside a CSV of the selection.

    Args:
        table: rows of a run.
        folder: where to write. It is created if absent.
        only: names of figures. Empty for all.

    Returns:
        The PNG files written.
    """
    from bench.reports.figures.style import save

    folder.mkdir(parents=True, exist_ok=True)
    chosen = [figure for figure in all_figures(set(table["scenario"])) if not only or figure.name in only]
    selections = [(figure, figure.select(table)) for figure in chosen]
    return [save(figure, selection, folder) for figure, selection in selections if not selection.empty]


def _loaded(entries: Sequence[tuple[str, str]], scenarios: Collection[str] | None) -> tuple[FigureSpec, ...]:
    figures: list[FigureSpec] = []
    for place, scenario in entries:
        if scenarios is None or (scenarios and scenario == ANY) or scenario in scenarios:
            module, _, name = place.partition(":")
            found = getattr(importlib.import_module(f"bench.reports.{module}"), name)
            figures += found if isinstance(found, tuple) else (found,)
    return tuple(figures)
