"""Scenario ``notebook``: the notebook's numbers, for any seed and parameters, and the exact ones beside them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.config import build
from bench.scenarios.notebook.scenario import MOST_UNITS_TO_FILL, run_notebook
from tests.conftest import ROOT
from tests.support import notebook_code
from tests.support.points import Composed, plan_of, values

CELLS = ROOT.parent / "shared" / "seed" / "000_373fe8b402863d15.txt"
SMALL = {"num_sequences": 17, "max_seq_length": 90, "hidden_dim": 3, "page_size": 7,
         "num_sequences_list": [0, 1, 2, 30], "page_sizes": [1, 5, 200],
         "memory_sizes": [0, 1e3, 123456.7]}  # fmt: skip


def answers(seed: int, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """What the scenario writes to ``notebook.json``, through JSON."""
    answer = run_notebook({"config": values("scenario=notebook", seed=seed, scenario=dict(parameters))})
    assert answer.status == "ok"
    artifact: dict[str, Any] = json.loads(json.dumps(answer.artifacts["notebook"]))
    return artifact


def expected(code: Any, seed: int, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the results of the notebook's functions, with the global generator seeded before each experiment."""
    p = SimpleNamespace(**values("scenario=notebook", scenario=dict(parameters))["scenario"])
    shape = {"max_seq_length": p.max_seq_length, "hidden_dim": p.hidden_dim}

    def run(function: Any, *arguments: Any, **keywords: Any) -> Any:
        np.random.seed(seed)
        return function(*arguments, **keywords, **shape)

    compared = run(code.compare_memory_efficiency, p.num_sequences_list, page_size=p.page_size)
    concurrent = [run(code.simulate_concurrent_requests, int(size), page_size=p.page_size) for size in p.memory_sizes]
    return {
        "simulate_traditional_kv_cache": run(code.simulate_traditional_kv_cache, p.num_sequences),
        "simulate_paged_attention": run(code.simulate_paged_attention, p.num_sequences, page_size=p.page_size),
        "compare_memory_efficiency": {"traditional_efficiency": compared[0], "paged_efficiency": compared[1]},
        "analyze_page_size_impact": {
            "efficiency_results": run(code.analyze_page_size_impact, p.page_sizes, p.num_sequences)
        },
        "simulate_concurrent_requests": {
            "trad_concurrent": [traditional for traditional, _ in concurrent],
            "paged_concurrent": [paged for _, paged in concurrent],
        },
    }


def same_with_types(ours: Any, theirs: Any) -> bool:
    """Equal to the last digit, a whole number whole on both sides."""
    return json.dumps(ours, sort_keys=True) == json.dumps(theirs, sort_keys=True)


@pytest.mark.parametrize("seed", [7, 2**32 - 1])
def test_the_defaults_give_the_notebooks_numbers(seed: int) -> None:
    assert same_with_types(answers(seed, {}), expected(notebook_code, seed, {}))


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    parameters=st.fixed_dictionaries(
        {
            "num_sequences": st.integers(0, 60),
            "max_seq_length": st.integers(10, 300),
            "hidden_dim": st.integers(1, 200),
            "page_size": st.integers(1, 400),
            "num_sequences_list": st.lists(st.integers(0, 40), max_size=3),
            "page_sizes": st.lists(st.integers(1, 400), max_size=3),
            "memory_sizes": st.lists(st.floats(0, 1e6), max_size=3),
        }
    ),
)
def test_any_parameters_give_the_notebooks_numbers(seed: int, parameters: dict[str, Any]) -> None:
    assert same_with_types(answers(seed, parameters), expected(notebook_code, seed, parameters))


@pytest.mark.skipif(not CELLS.is_file(), reason="the notebook's file is not beside the repository")
@pytest.mark.parametrize("parameters", [{}, SMALL], ids=["defaults", "small"])
def test_the_notebooks_own_cells_give_the_same(parameters: dict[str, Any]) -> None:
    cells = _own_functions(CELLS)
    for seed in (0, 12345):
        theirs = expected(cells, seed, parameters)
        assert same_with_types(answers(seed, parameters), theirs)
        assert same_with_types(expected(notebook_code, seed, parameters), theirs)


def _own_functions(path: Path) -> SimpleNamespace:
    """Return the notebook's functions and its class, executed unchanged, without plots and prints."""
    text = path.read_text(encoding="utf-8")
    definitions = re.findall(r"^(?:def|class) .*?(?=^\S)", text, flags=re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {"np": np}
    for definition in definitions:
        exec(definition, names)
    return SimpleNamespace(**names)


def test_the_row_has_the_exact_split_beside_the_cumulative_figure() -> None:
    row = run_notebook({"config": values("scenario=notebook", seed=7)}).values
    parts = ("live", "reserved", "internal_fragmentation", "external_fragmentation", "cached", "free")
    assert sum(row[f"{part}_bytes"] for part in parts) == row["pool_bytes"] == 4_718_592
    paged = answers(7, {})["simulate_paged_attention"]
    assert row["free_bytes"] == paged["free_pages"] * 16 * 64
    assert row["paged_cumulative_ratio"] == paged["efficiency"]
    held = row["pool_bytes"] - row["free_bytes"]
    assert held < paged["used_capacity"], "the notebook still counts what was freed"
    assert row["paged_exact_ratio"] == row["live_bytes"] / held


def test_sequences_that_found_no_memory_are_counted() -> None:
    crowded = {"num_sequences": 1, "max_seq_length": 100, "page_size": 1, "page_sizes": [], "memory_sizes": []}
    refused = [
        run_notebook({"config": values("scenario=notebook", seed=seed, scenario=crowded)}).values["refused_seqs"]
        for seed in range(20)
    ]
    assert set(refused) == {0, 1}, "a pool of 72 pages, a sequence of 10 to 100 tokens"


def test_the_curves_hold_exact_figures_beside_the_notebooks() -> None:
    answer = run_notebook({"config": values("scenario=notebook", seed=3, scenario=SMALL)})
    curves = json.loads(answer.values["curves"])
    notebook = answer.artifacts["notebook"]
    lists = {name: series for function in list(notebook)[2:] for name, series in notebook[function].items()}
    for name, series in lists.items():
        assert curves[name] == series
        assert len(curves[f"{name}_exact"]) == len(series)
    assert curves["trad_concurrent_exact"] == curves["trad_concurrent"], "reservations are of one size"
    too_large = {"memory_sizes": [float(3 * 7 * (MOST_UNITS_TO_FILL + 1))], "hidden_dim": 3, "page_size": 7}
    answer = run_notebook({"config": values("scenario=notebook", scenario=too_large)})
    assert json.loads(answer.values["curves"])["paged_concurrent_exact"] == [None]


def test_root_values_have_no_effect_and_seed_and_parameters_do() -> None:
    same = [
        Composed("scenario=notebook"),
        Composed("scenario=notebook", page_size=4, num_seqs=5, memory_budget="1GiB", page_layout="aged"),
        Composed("scenario=notebook", "policy=reserved_max", "impl=contiguous", "model=opt-13b", "workload=fixed"),
    ]
    assert len(plan_of(*same).points) == 1
    others = [Composed("scenario=notebook", scenario={"page_size": 4}), Composed("scenario=notebook", seed=1)]
    assert len(plan_of(*same, *others).points) == 3


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"page_sizes": [0]}, r"scenario.page_sizes\[0\]=0 must be at least 1"),
        ({"page_sizes": 4}, "scenario.page_sizes=4 must be a list"),
        ({"page_sizes": [4, "x"]}, r"scenario.page_sizes\[1\]=x must be a whole number"),
        ({"num_sequences_list": [1, -1]}, r"scenario.num_sequences_list\[1\]=-1 must be at least 0"),
        ({"memory_sizes": [float("inf")]}, r"scenario.memory_sizes\[0\]=inf must be a finite number"),
        ({"max_seq_length": 9}, "scenario.max_seq_length=9 must be at least 10"),
        ({"num_sequences": -1}, "scenario.num_sequences=-1 must be at least 0"),
        ({"hidden_dim": 0}, "scenario.hidden_dim=0 must be at least 1"),
        ({"page_size": 0}, "scenario.page_size=0 must be at least 1"),
        ({"layers_allocated": 1}, "scenario.layers_allocated is not a configuration key"),
    ],
)
def test_a_wrong_parameter_is_one_sentence(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        build(values("scenario=notebook", scenario=change))


def test_the_legacy_generator_bounds_the_seed() -> None:
    with pytest.raises(ValueError, match=r"seed=4294967296 must be at most 4294967295 for scenario=notebook"):
        build(values("scenario=notebook", seed=2**32))


def test_the_command_writes_its_file_next_to_the_rows(bench: Any, tmp_path: Path) -> None:
    done = bench(
        "scenario=notebook", "seed=7", "scenario.page_sizes=[4,16]", "draw=false", f"run_dir={tmp_path / 'run'}"
    )
    assert done.returncode == 0, done.stderr
    written = json.loads((tmp_path / "run" / "notebook.json").read_text())
    assert same_with_types(written, expected(notebook_code, 7, {"page_sizes": [4, 16]}))
    rows = [json.loads(path.read_text()) for path in (tmp_path / "run" / "points").glob("*.json")]
    assert [(row["status"], row["policy"], row["implementation"]) for row in rows] == [("ok", None, None)]


def test_a_wrong_parameter_ends_the_command_with_2(bench: Any, tmp_path: Path) -> None:
    done = bench("scenario=notebook", "scenario.page_sizes=[0]", f"run_dir={tmp_path / 'run'}")
    assert (done.returncode, done.stderr.strip()) == (
        2, "error: scenario.page_sizes[0]=0 must be at least 1 and finite",
    )  # fmt: skip
    assert not (tmp_path / "run").exists()
