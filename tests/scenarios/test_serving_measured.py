"""A step's attention from measured rows: a line, keyed by the numbers that it goes through."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.optimize import nnls

from bench.config import build
from bench.scenarios.serving.cost import roofline
from bench.scenarios.serving.measured import MeasuredStep, line, with_measured_attention
from bench.scenarios.serving.scenario import run_serving
from tests.conftest import Run
from tests.support.points import Composed, plan_of


def write(folder: Path, rows: list[tuple[int, float]], **columns: Any) -> str:
    (folder / "points").mkdir(parents=True, exist_ok=True)
    identity = {"scenario": "decode", "model": "tiny", "page_size": 16, "implementation": "paged_torch"}
    common = {"schema_version": 1, "key": "k", "replicate": 0, "status": "ok", **identity, **columns}
    for place, (tokens, us) in enumerate(rows):
        name = f"{common['implementation']}-{place}.json"
        (folder / "points" / name).write_text(json.dumps({**common, "live_tokens": tokens, "decode_us": us}))
    return str(folder)


def point(rows: str | None, **cost: Any) -> Any:
    changes = {"num_seqs": 20, "memory_budget": "8MiB", "cost": {"rows": rows, **cost}}
    return plan_of(Composed("scenario=serving", "policy=paged", **changes)).points[0]


def test_the_line_passes_through_the_measured_rows(tmp_path: Path) -> None:
    config = point(write(tmp_path, [(1000, 30.0), (2000, 50.0), (4000, 90.0)])).config
    base = roofline(config.cost, config.model, 16)
    measured = with_measured_attention(base, config.cost, config.model, 16)
    layers = config.model.num_layers
    assert measured.context_fs == pytest.approx(layers * 0.02e9, rel=1e-6)
    assert measured.overhead_fs - base.overhead_fs == pytest.approx(layers * 10e9, rel=1e-6)
    assert measured.weights_fs == base.weights_fs


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([(1, 4.0), (3, 12.5), (5, 20.0), (5, 21.0)], "falls below zero without tokens"),
        ([(1, 9.0), (2, 7.0), (8, 5.5)], "falls with the tokens"),
        ([(1, 9.0), (2, 10.5), (8, 20.0), (8, 22.0)], "rises from above zero"),
    ],
)
def test_the_line_has_the_least_squares_of_the_relative_errors(rows: list[tuple[int, float]], expected: str) -> None:
    tokens, times = np.array(rows, dtype=np.float64).T
    terms, _ = nnls(np.stack([1 / times, tokens / times], axis=1), np.ones_like(times))
    assert line(tuple(MeasuredStep(*row) for row in rows)) == pytest.approx(terms.tolist(), rel=1e-12, abs=1e-15)
    places = {"falls below zero without tokens": (False, True), "falls with the tokens": (True, False)}
    assert tuple(terms > 0) == places.get(expected, (True, True))


def test_the_key_depends_on_the_measured_rows(tmp_path: Path) -> None:
    rows = [(1000, 30.0), (2000, 50.0)]
    here, there = write(tmp_path / "here", rows), write(tmp_path / "there", rows)
    other = write(tmp_path / "other", [(1000, 30.0), (2000, 51.0)])
    keys = {folder: point(folder).key for folder in (here, there, other)}
    assert keys[here] == keys[there] != keys[other]
    assert point(None).key not in keys.values()
    row = run_serving({"config": point(here).config.to_json()}).values
    assert row["measured_rows"] == point(here).question["cost"]["rows"]


def test_rows_of_several_implementations_need_a_name(tmp_path: Path) -> None:
    write(tmp_path, [(1000, 30.0), (2000, 50.0)])
    folder = write(tmp_path, [(1000, 20.0), (2000, 30.0)], implementation="contiguous", page_size=None)
    with pytest.raises(ValueError, match=r"rows of contiguous, paged_torch\. Name one with cost.implementation"):
        point(folder)
    assert point(folder, implementation="contiguous").key != point(folder, implementation="paged_torch").key


@pytest.mark.parametrize(
    ("rows", "columns", "sentence"),
    [
        ([(1000, 30.0)], {}, "2 different live_tokens"),
        ([(1000, 30.0), (2000, 40.0)], {"model": "opt-13b"}, "model=tiny"),
        ([(1000, 30.0), (2000, 40.0)], {"page_size": 8}, "page_size=16"),
        ([(1000, 30.0), (2000, 40.0)], {"status": "oom"}, "must hold ok rows"),
        ([], {}, "is no run folder"),
    ],
)
def test_rows_that_do_not_fit_are_named(tmp_path: Path, rows: Any, columns: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        point(write(tmp_path, rows, **columns))


def test_rows_of_a_real_run_are_taken(bench: Run, tmp_path: Path) -> None:
    timed = bench(
        "-m",
        "scenario=decode",
        "impl=paged_torch",
        "num_seqs=2,4",
        "measure=quick",
        "measure.weigh=false",
        "draw=false",
        f"run_dir={tmp_path / 'decode'}",
    )
    assert timed.returncode == 0, timed.stderr
    served = bench(
        "-m",
        "scenario=serving",
        "num_seqs=5",
        "draw=false",
        f"cost.rows={tmp_path / 'decode'}",
        f"run_dir={tmp_path / 'run'}",
    )
    assert served.returncode == 0, served.stderr
    row = json.loads(next((tmp_path / "run" / "points").glob("*.json")).read_text())
    assert row["measured_rows"]
    assert build(Composed("scenario=serving").values).cost.rows is None
