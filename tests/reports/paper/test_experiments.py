"""A figure is a function of rows: the sweep of an experiment gives the same figure however it was written."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bench.reports.catalogue import all_figures
from bench.reports.paper.experiments import definition, sweeps_over
from bench.reports.paper.figures.rows import experiment_rows
from bench.reports.paper.runs import EXPERIMENTS
from bench.rows.columns import COLUMNS, NAMES
from bench.rows.record import read_row
from bench.runner.row import identity
from bench.scenarios.serving.metrics import question_columns
from tests.support.points import Composed, plan_of, planned, row_of

WITHOUT_TRACE = sorted({part.experiment for part in EXPERIMENTS if part.trace is None})
OTHER_DURATION = {
    ("paper_fig12_13b", "paper_fig18b"),
    ("paper_fig12_13b", "paper_fig19b"),
    ("paper_fig13_alpaca", "paper_fig13_steps_alpaca"),
    ("paper_fig13_steps_alpaca", "paper_fig13_alpaca"),
    ("paper_fig18b", "paper_fig12_13b"),
    ("paper_fig19b", "paper_fig12_13b"),
}
"""Pairs of experiments with a point that differs in scenario.duration_s alone, which is in the key but no column."""


@cache
def rows_of(experiment: str) -> pd.DataFrame:
    """The rows of an experiment as the sweep would record them, with made-up numbers."""
    plan = planned(f"experiment={experiment}")
    draw = np.random.default_rng(0)
    rows = []
    for point in plan.points:
        config = point.config
        asked = question_columns(config) if config.scenario.name == "serving" else {}
        numbers = {column.name: float(draw.integers(1, 1000)) for column in COLUMNS if column.kind == "exact"}
        curves = {"from_tokens": [0, 8], "prompt": [0.5, 0.5], "output": [0.5, 0.5]}
        identified = {**identity(point)[0], **asked, "experiment": experiment, "replicate": 0}
        rows.append({**numbers, **identified, "status": "ok", "curves": json.dumps(curves)})
    return typed(rows)


def typed(rows: list[dict[str, Any]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=list(NAMES)).astype({column.name: column.dtype for column in COLUMNS})


def by_hand(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.assign(experiment=None)


@pytest.mark.parametrize("experiment", WITHOUT_TRACE)
def test_rows_of_an_experiment_are_found_without_its_name(experiment: str) -> None:
    rows = by_hand(rows_of(experiment))
    assert len(rows)
    expected = experiment_rows(rows_of(experiment), experiment).assign(experiment=None)
    pd.testing.assert_frame_equal(experiment_rows(rows, experiment), expected)


@pytest.mark.parametrize("experiment", WITHOUT_TRACE)
def test_rows_of_other_questions_are_not_taken(experiment: str) -> None:
    own = set(rows_of(experiment)["key"])
    for other in WITHOUT_TRACE:
        rows = rows_of(other)
        taken = set(rows[sweeps_over(experiment, rows)]["key"])
        assert taken <= own or (experiment, other) in OTHER_DURATION


@pytest.mark.parametrize(
    ("figure", "experiments"),
    [
        ("paper_fig02", ("paper_fig02",)),
        ("paper_fig11", ("paper_fig11",)),
        ("paper_fig12", ("paper_fig12_13b", "paper_fig12_66b")),
        ("paper_fig12_rates", ("paper_fig12_13b", "paper_fig12_66b")),
        ("paper_fig13", ("paper_fig13", "paper_fig13_alpaca")),
        ("paper_fig13_queue", ("paper_fig02", "paper_fig13_queue")),
        ("paper_fig13_steps", ("paper_fig13_steps",)),
        ("paper_fig14", ("paper_fig14", "paper_fig14_beam")),
        ("paper_fig15", ("paper_fig15", "paper_fig15_beam")),
        ("paper_fig16", ("paper_fig16",)),
        ("paper_fig18b", ("paper_fig18b", "paper_fig18b_alpaca")),
        ("paper_fig18b_pages", ("paper_fig18b_pages",)),
        ("paper_fig19b", ("paper_fig19b",)),
        ("modern_models", ("modern_llama3_8b", "modern_llama3_70b")),
    ],
)
def test_a_sweep_that_was_written_out_gives_the_same_figure(figure: str, experiments: tuple[str, ...]) -> None:
    (spec,) = [found for found in all_figures() if found.name == figure]
    named = pd.concat([rows_of(name) for name in experiments], ignore_index=True)
    expected = spec.select(named)
    assert len(expected)
    pd.testing.assert_frame_equal(spec.select(by_hand(named)), expected)


def test_the_table_of_slots_is_the_same_from_real_rows() -> None:
    points = [Composed("experiment=paper_table1", f"model={model}", "policy=paged", "workload=fixed", page_size=1,
                       workload={"length": 1}, memory_budget=budget)
              for model, budget in (("opt-13b", "12GiB"), ("opt-66b", "21GiB"))]  # fmt: skip
    rows = typed([row_of(point) for point in plan_of(*points).points])
    assert set(rows["experiment"]) == {"paper_table1"}
    (spec,) = [found for found in all_figures() if found.name == "paper_table1"]
    expected = spec.select(rows)
    assert expected["model"].tolist() == ["opt-13b", "opt-66b"]
    pd.testing.assert_frame_equal(spec.select(by_hand(rows)), expected)


def test_published_lengths_count_as_those_that_they_replace() -> None:
    rows = by_hand(rows_of("paper_fig12_13b"))
    for trace, expected in (("sharegpt_papermatched", True), ("sharegpt_8k_filtered_stats_llama2_tokenizer", False)):
        replaced = rows.assign(workload="trace", trace=trace)
        assert sweeps_over("paper_fig12_13b", replaced).all() == expected


def test_a_row_with_a_name_belongs_to_no_other_experiment() -> None:
    rows = rows_of("paper_fig13").assign(experiment="mine")
    assert experiment_rows(rows, "paper_fig13").empty


def test_an_experiment_that_does_not_exist_is_one_sentence() -> None:
    with pytest.raises(ValueError, match=r"experiment=nothing is not known: there is no nothing\.yaml"):
        definition("nothing")


@pytest.mark.parametrize(
    ("command", "expected"),
    [("python bench/run.py -m experiment=paper_fig02 seed=1", "paper_fig02"), ("python bench/run.py -m seed=1", None)],
)
def test_an_older_row_names_the_experiment_of_its_command(tmp_path: Path, command: str, expected: str | None) -> None:
    row = {"schema_version": 1, "key": "k", "replicate": 0, "status": "ok", "repro_command": command}
    (tmp_path / "row.json").write_text(json.dumps(row))
    assert read_row(tmp_path / "row.json")["experiment"] == expected


@pytest.mark.parametrize(("overrides", "expected"), [(("experiment=churn",), "churn"), (("experiment=null",), None),
                                                     ((), None)])  # fmt: skip
def test_a_row_records_the_experiment_that_the_command_named(overrides: tuple[str, ...], expected: str | None) -> None:
    composed = Composed("scenario=lengths", num_seqs=4)
    composed.overrides = overrides
    row = row_of(plan_of(composed).points[0])
    assert row["experiment"] == expected
