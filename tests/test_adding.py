"""The examples of ``docs/adding.md`` work: its files are written, its commands run, its entries used."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import pytest
from matplotlib.figure import Figure

from bench.reports.figures.style import FigureSpec, save
from bench.reports.paper.judge import judge_all
from bench.reports.paper.registry import load_claims
from bench.rows.table import load_rows
from bench.workload.traces import reader
from bench.workload.traces.cells import seconds, tokens
from bench.workload.traces.csv_files import CSV_SCHEMAS, CsvSchema
from tests.conftest import ROOT

GUIDE = (ROOT / "docs" / "adding.md").read_text(encoding="utf-8")
BLOCK = re.compile(
    r"<!-- (?P<kind>file|python|yaml|run)(?:: (?P<name>\S+))? -->\n```\w+\n(?P<text>.*?)^```", re.S | re.M
)
SMALL = ("measure=quick", "num_seqs=2", "model.max_seq_len=1024", "draw=false")


def blocks(kind: str) -> dict[str, str]:
    """Return the marked code blocks of one kind by name. Unnamed ones are numbered."""
    found = [match for match in BLOCK.finditer(GUIDE) if match["kind"] == kind]
    return {match["name"] or str(number): match["text"] for number, match in enumerate(found)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every file that the guide shows."""
    root = tmp_path_factory.mktemp("adding")
    for name, text in blocks("file").items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    return root


def run(command: str, folder: Path, run_dir: Path, *extra: str) -> pd.DataFrame:
    """Run a command of the guide in the folder of its files, and return its rows."""
    words = shlex.split(command)
    assert words[:2] == ["python", "bench/run.py"], command
    arguments = [str(ROOT / "bench" / "run.py"), *words[2:], *extra, f"run_dir={run_dir}"]
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, capture_output=True, text=True, check=False, env=os.environ
    )
    assert done.returncode == 0, done.stderr
    return load_rows(run_dir)


@pytest.fixture(scope="module")
def measured(folder: Path) -> pd.DataFrame:
    """Rows of the guide's implementation beside ``paged_torch``."""
    command = next(text for text in blocks("run").values() if "impl=mine" in text)
    return run(command, folder, folder / "measured", *SMALL, "device=cpu")


def test_the_implementation_is_right_and_timed(measured: pd.DataFrame) -> None:
    assert measured.set_index("implementation")["status"].to_dict() == {"mine": "ok", "paged_torch": "ok"}
    assert measured["decode_us"].gt(0).all()


def test_every_other_command_runs(folder: Path, tmp_path: Path) -> None:
    others = [text for text in blocks("run").values() if "impl=mine" not in text and "policy=pairs" not in text]
    assert others
    for number, command in enumerate(others):
        rows = run(command, folder, tmp_path / str(number), "draw=false")
        assert rows["status"].eq("ok").all(), command


def test_the_policy_is_simulated_and_its_source_counts(folder: Path, tmp_path: Path) -> None:
    command = next(text for text in blocks("run").values() if "policy=pairs" in text)
    rows = run(command, folder, tmp_path / "run", "draw=false").set_index("policy")
    assert rows["most_running_seqs"].to_dict() == {"pairs": 2, "paged": 20}
    assert rows["frees"].eq(20).all()
    assert rows["key"].is_unique
    assert rows["code_hash"].is_unique


def test_the_model_has_the_bytes_of_its_shape(folder: Path, tmp_path: Path) -> None:
    command = next(text for text in blocks("run").values() if "model=small-gqa" in text)
    rows = run(command, folder, tmp_path / "run", "draw=false")
    token_bytes = 2 * 4 * 64 * 2 * 4  # K and V, KV heads, head_dim, float16, layers
    assert (rows["live_bytes"] % token_bytes).eq(0).all()
    assert rows["admitted_seqs"].gt(0).all()


def test_the_scenario_counts_the_sequences_that_fit(folder: Path, tmp_path: Path) -> None:
    command = next(text for text in blocks("run").values() if "scenario=fit" in text)
    rows = run(command, folder, tmp_path / "run", "draw=false")
    token_bytes, budget = 2 * 2 * 8 * 64 * 4, 64 * 2**20  # model=tiny: K and V, layers, heads, head_dim, float32
    reserved = rows[rows["policy"].eq("reserved_max")]
    assert set(reserved["admitted_seqs"]) == {budget // token_bytes // 1024}, "max_seq_len slots per sequence"
    paged = rows[rows["policy"].eq("paged")]
    assert set(paged["admitted_seqs"]) == {budget // token_bytes // slots for slots in (112, 1008)}, "whole pages of 16"


def test_the_trace_format_reads_its_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    schema = eval(blocks("python")["trace"], {"CsvSchema": CsvSchema, "seconds": seconds, "tokens": tokens})
    monkeypatch.setattr(reader, "CSV_SCHEMAS", (*CSV_SCHEMAS, schema))
    trace = reader.load_trace(str(folder / "mine" / "trace.csv"))
    assert trace.schema == "My trace"
    assert trace.requests.prompt_lens.tolist() == [120, 80]
    assert trace.requests.output_lens.tolist() == [30, 200]


@pytest.fixture(scope="module")
def figure() -> FigureSpec:
    names: dict[str, object] = {"pd": pd, "plt": plt, "Figure": Figure, "FigureSpec": FigureSpec}
    exec(blocks("python")["figure"], names)
    spec = names["APPEND"]
    assert isinstance(spec, FigureSpec)
    return spec


def test_the_figure_is_drawn_from_rows_alone(figure: FigureSpec, measured: pd.DataFrame, tmp_path: Path) -> None:
    selection = figure.select(measured)
    assert set(selection["implementation"]) == {"mine", "paged_torch"}
    assert save(figure, selection, tmp_path).stat().st_size > 0
    assert figure.select(measured[measured["status"] != "ok"]).empty


def test_the_claim_is_judged_by_the_figure(figure: FigureSpec, measured: pd.DataFrame, tmp_path: Path) -> None:
    path = tmp_path / "claims.yaml"
    path.write_text(blocks("yaml")["claim"], encoding="utf-8")
    (verdict,) = judge_all(load_claims(path), measured, [figure])
    assert verdict.verdict == "reproduced"
    assert verdict.ours == measured.set_index("implementation")["append_us"]["paged_torch"]


FIRST_METRIC = (ROOT / "docs" / "first_metric.md").read_text(encoding="utf-8")


def shown(mark: str) -> str:
    """Return the code block of ``docs/first_metric.md`` behind a mark."""
    found = re.search(rf"<!-- {re.escape(mark)} -->\n```\w+\n(.*?)^```", FIRST_METRIC, re.S | re.M)
    assert found, mark
    return found[1]


def apply(diff: str, path: Path) -> None:
    """Apply a diff whose unchanged lines occur once in the file."""
    lines = diff.splitlines(keepends=True)
    old = "".join(line[1:] for line in lines if not line.startswith("+"))
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1, f"{path}: {old}"
    path.write_text(text.replace(old, "".join(line[1:] for line in lines)), encoding="utf-8")


def test_the_first_metric_is_recorded_and_documented(tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    for folder in ("bench", "impls", "conf", "scripts", "tests"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", copy)
    topic, scenario = "bench/rows/columns/pool.py", "bench/scenarios/bookkeeping.py"
    text = (copy / topic).read_text(encoding="utf-8")
    end = "    ),\n)\n"
    assert text.endswith(end)
    entry = shown(f"entry: {topic}").rstrip()
    (copy / topic).write_text(f"{text.removesuffix(end)}{entry},\n{end}", encoding="utf-8")
    apply(shown(f"diff: {scenario}"), copy / scenario)
    command = [
        "bench/run.py",
        "-m",
        "scenario=capacity",
        "policy=paged",
        "memory_budget=64MiB",
        "draw=false",
        "run_dir=first",
    ]
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([sys.executable, *command], cwd=copy, capture_output=True, text=True, check=False, env=env)
    assert done.returncode == 0, done.stderr
    assert "live share" in done.stdout
    (path,) = (copy / "first" / "points").glob("*.json")
    row = json.loads(path.read_text(encoding="utf-8"))
    assert row["live_ratio"] == row["live_bytes"] / row["pool_bytes"] > 0
    printed = "from scripts.update_docs import columns_by_topic; print(columns_by_topic())"
    done = subprocess.run(
        [sys.executable, "-c", printed], cwd=copy, capture_output=True, text=True, check=True, env=env
    )
    assert "| `live_ratio` | exact | higher | ratio |" in done.stdout
    test = "tests/scenarios/test_capacity.py"
    with (copy / test).open("a", encoding="utf-8") as file:
        file.write(f"\n\n{shown(f'append: {test}')}")
    run_test = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", test, "-k", "live_share"]
    done = subprocess.run(run_test, cwd=copy, capture_output=True, text=True, check=False, env=env)
    assert "1 passed" in done.stdout, done.stdout
