"""Figures of the scenarios without tensors: drawn from rows alone, and a command where rows are missing."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from bench.reports.catalogue import all_figures, draw_figures
from bench.reports.figures.memory import MEMORY_SPLIT
from bench.rows.columns import COLUMNS, NAMES
from bench.rows.record import complete
from bench.rows.result import Answer
from bench.rows.table import typed
from bench.runner.row import make_row
from bench.scenarios.memory.capacity import fill_to_capacity
from bench.scenarios.memory.churn import run_churn
from bench.scenarios.notebook.scenario import run_notebook
from scripts import make_figures
from tests.conftest import ROOT
from tests.support.commands import script_in_process
from tests.support.points import Composed, plan_of

SCENARIOS: dict[str, Callable[[dict[str, Any]], Answer]] = {
    "notebook": run_notebook, "capacity": fill_to_capacity, "churn": run_churn,
}  # fmt: skip
FACTS = dict.fromkeys(
    ("server_id", "code_hash", "fingerprint", "log", "repro_command", "harness_s", "measured_s", "mixed"), 0
)


def table(*points: Composed) -> pd.DataFrame:
    """The rows of some points, as ``load_rows`` gives them."""
    rows = []
    for point in plan_of(*points).points:
        answer = SCENARIOS[point.config.scenario.name]({"config": point.config.to_json()})
        rows.append(complete(make_row(point, 0, answer, FACTS)))
    return pd.DataFrame(rows, columns=list(NAMES)).astype({column.name: column.dtype for column in COLUMNS})


@cache
def everything() -> pd.DataFrame:
    """Each scenario under two seeds and two policies."""
    small = {"num_sequences": 20, "num_sequences_list": [5, 10], "page_sizes": [4, 64], "memory_sizes": [1e5, 1e6]}
    points = [Composed("scenario=notebook", seed=seed, scenario=small) for seed in (0, 1)]
    for policy in ("reserved_oracle", "paged"):
        for seed in (0, 1):
            common = {"seed": seed, "num_seqs": 40}
            points += [
                Composed("scenario=capacity", f"policy={policy}", **common, memory_budget=budget)
                for budget in ("32MiB", "64MiB")
            ]
            points.append(Composed("scenario=churn", f"policy={policy}", **common, memory_budget="32MiB"))
    return table(*points)


@pytest.mark.parametrize(
    "name",
    ["notebook_efficiency", "notebook_used", "notebook_page_size", "notebook_concurrency", "memory_split",
     "capacity", "churn_over_time", "churn_policies"],
)  # fmt: skip
def test_a_figure_comes_with_its_csv_and_svg(name: str, tmp_path: Path) -> None:
    (drawn,) = draw_figures(everything(), tmp_path, only=[name])
    assert drawn.name == f"{name}.png"
    assert {path.suffix for path in tmp_path.iterdir()} == {".png", ".svg", ".csv"}
    assert len(pd.read_csv(tmp_path / f"{name}.csv")) > 1


def test_the_notebooks_figures_hold_its_numbers_beside_the_exact_ones() -> None:
    (spec,) = [figure for figure in all_figures() if figure.name == "notebook_page_size"]
    lines = spec.select(everything())
    assert len(lines) == 2 * 2 * 2, "seeds, page sizes, what is counted"
    first = run_notebook(
        {"config": plan_of(Composed("scenario=notebook", seed=0, scenario={"num_sequences": 20, "page_sizes": [4, 64]}))
         .points[0].config.to_json()}
    )  # fmt: skip
    notebook = lines[lines["seed"].eq(0) & lines["figure"].str.startswith("the notebook")]
    assert notebook["value"].tolist() == first.artifacts["notebook"]["analyze_page_size_impact"]["efficiency_results"]


def test_the_split_is_the_mean_over_the_seeds() -> None:
    (spec,) = [figure for figure in all_figures() if figure.name == "memory_split"]
    rows = everything()
    lines = spec.select(rows)
    assert set(lines["policy"]) == {"reserved_oracle", "paged"}, "the notebook's pool is nobody's policy"
    churn = rows[rows["scenario"].eq("churn") & rows["policy"].eq("paged")]
    mine = lines[lines["scenario"].eq("churn") & lines["policy"].eq("paged")]
    assert mine["live_bytes"].tolist() == [churn["live_bytes"].mean()]


def test_a_table_without_rows_draws_nothing(tmp_path: Path) -> None:
    assert draw_figures(everything().head(0), tmp_path) == []


def test_every_figure_names_an_existing_command() -> None:
    done = script_in_process(make_figures, "--list")
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == len(all_figures())
    for figure in all_figures():
        name = figure.command.rpartition("experiment=")[2].partition(" ")[0]
        assert figure.command in done.stdout
        assert "experiment=" not in figure.command or (ROOT / "conf" / "experiment" / f"{name}.yaml").is_file()


def test_a_bar_without_a_number_of_admitted_sequences_names_the_pool_alone() -> None:
    parts = {f"{part}_bytes": 0 for part in ("reserved", "internal_fragmentation", "external_fragmentation", "cached")}
    served = {"key": "k", "replicate": 0, "status": "ok", "scenario": "serving", "policy": "paged",
              "pool_bytes": 2**20, "live_bytes": 2**19, "free_bytes": 2**19, **parts}  # fmt: skip
    selection = MEMORY_SPLIT.select(typed([served], Path("rows")))
    figure = MEMORY_SPLIT.draw(selection)
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert "1 MiB" in texts
    assert not [text for text in texts if "NA" in text or "seqs" in text]


def test_only_the_figures_of_the_scenarios_of_a_table_are_imported() -> None:
    code = (
        "import sys; from bench.reports.catalogue import all_figures; before = set(sys.modules); "
        "all_figures({'notebook'}); "
        "print(sorted(name for name in set(sys.modules) - before if name.startswith('bench.reports.')))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ast.literal_eval(done.stdout) == [
        f"bench.reports.{name}" for name in ("figures", "figures.memory", "figures.notebook", "figures.style")
    ]
