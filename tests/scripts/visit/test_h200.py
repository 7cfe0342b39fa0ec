"""The committed rows of an H200: they load, their README is theirs, and the claims' sentences hold their numbers."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from bench.reports.catalogue import all_figures
from bench.reports.figures.decode import DECODE_LATENCY
from bench.reports.paper.registry import CLAIMS, Claim, load_claims
from bench.reports.paper.runs import load_tables
from bench.rows.table import load_rows
from scripts.visit.reference import read_reference
from scripts.visit_to_reference import readme_of

H200 = Path(__file__).resolve().parents[3] / "results" / "reference" / "nvidia-h200"


@cache
def table() -> pd.DataFrame:
    return load_tables(H200)


def frame(figure: str) -> pd.DataFrame:
    (spec,) = (spec for spec in all_figures() if spec.name == figure)
    return spec.select(table())


def claim(name: str) -> Claim:
    (found,) = (claim for claim in load_claims(CLAIMS) if claim.id == name)
    return found


def test_every_row_is_ok_and_no_step_is_faster_than_the_read_ceiling() -> None:
    rows = table()
    assert set(rows["status"]) == {"ok"}
    shares = rows["ceiling_ratio"].dropna().astype(float)
    assert len(shares) > 100
    assert shares.min() > 0
    assert shares.max() <= 1


def test_every_planned_point_is_a_row_or_was_refused_with_a_reason() -> None:
    for name, sweep in read_reference(H200).items():
        planned = {f"{point['key']}-0" for point in sweep.plan["points"]}
        assert set(sweep.rows) | set(sweep.refused) <= planned, name
        assert not set(sweep.rows) & set(sweep.refused), name
        missing = planned - set(sweep.rows) - set(sweep.refused)
        assert len(missing) == (1 if name == "fig19a_recompute" else 0), "the visit ended in that sweep"


def test_its_readme_is_made_from_its_rows() -> None:
    expected = (H200 / "README.md").read_text()
    assert readme_of(H200) == expected, (
        "run: python scripts/visit_to_reference.py --readme results/reference/nvidia-h200"
    )


def test_the_process_memory_agrees_with_the_storage() -> None:
    rows = table()
    rows = rows[rows["process_memory_rise_bytes"].notna() & rows["implementation"].ne("paged_torch")]
    assert len(rows) >= 2
    share = rows["process_memory_rise_bytes"].astype(float) / rows["storage_bytes"].astype(float)
    assert share.between(0.998, 1.01).all()


def test_a_figure_of_panels_shows_the_slowest_point_of_each() -> None:
    rows = load_rows(H200 / "flagship")
    drawn = DECODE_LATENCY.draw(DECODE_LATENCY.select(rows))
    try:
        assert len(drawn.axes) == 2
        assert drawn.axes[0].get_ylim()[1] > rows["decode_us"].astype(float).max()
    finally:
        plt.close(drawn)


def numbers(text: str) -> list[str]:
    """Numbers with a decimal point after "On an H200"."""
    return re.findall(r"\d+\.\d+", text.partition("On an H200")[2])


def test_the_sentence_of_figure_18a_holds_measured_numbers() -> None:
    rows = frame("paper_fig18a")
    rows = rows[rows["implementation"].eq("paged_triton")]
    others = rows[rows["baseline"].eq("contiguous")]["overhead"]
    own = rows[rows["baseline"].eq("triton_contiguous")]["overhead"]
    faster = -others[others < 0]
    assert (len(faster), len(others)) == (5, 6)
    expected = [faster.min(), faster.max(), others.max(), own.min(), own.max()]
    assert numbers(claim("fig18a").disputed) == [f"{value:.1f}" for value in expected]


def test_the_sentence_of_figure_18b_holds_measured_numbers() -> None:
    rows = frame("paper_fig18b_kernel")
    small = rows[rows["small"]].sort_values("pages")
    assert small["pages"].tolist() == [1, 2, 4, 8]
    assert numbers(claim("fig18b-small").if_differs) == [f"{100 * (value - 1):.1f}" for value in small["over_best"]]


def test_the_sentence_of_figure_19a_holds_measured_numbers() -> None:
    rows = frame("paper_fig19a")
    each = rows[rows["moves"].eq("each")].set_index("pages")
    assert rows["recompute_ms"].max() < 1.001 * rows["recompute_ms"].min()
    expected = [each["recompute_ms"].median(), *(each["swap_ms"][pages] for pages in (2, 8, 128))]
    assert numbers(claim("fig19a").disputed) == [f"{value:.1f}" for value in expected]


def test_the_sentence_of_flashinfer_holds_measured_numbers() -> None:
    rows = table()
    rows = rows[rows["implementation"].eq("paged_flashinfer")].set_index("page_size")["decode_us"].astype(float)
    assert numbers(claim("flashinfer-page-1").run) == [f"{100 * (rows[1] / rows[16] - 1):.1f}"]


@pytest.mark.parametrize("name", ["first_visit/tiles.json", "check.json", "checks.json", "timings.json", "facts.json"])
def test_the_other_files_of_the_visits_are_there(name: str) -> None:
    assert (H200 / name).stat().st_size > 1000
