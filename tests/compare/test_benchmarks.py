"""JSON of pytest-benchmark as a side and as a run folder, with one file made by pytest-benchmark itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.cli.status import read_state
from bench.compare import Rules, compare
from bench.compare.benchmarks import key_of_benchmark
from bench.compare.load import load_side
from scripts import benchmark_to_run, compare_runs

MACHINE = {"node": "here", "machine": "x86_64", "system": "Linux", "release": "6", "python_version": "3.12.1",
           "cpu": {"brand_raw": "a processor"}}  # fmt: skip


def content(number: int, medians: dict[str, Any], **machine: Any) -> dict[str, Any]:
    return {
        "machine_info": {**MACHINE, **machine},
        "commit_info": {"id": "abc", "dirty": False},
        "datetime": f"2026-01-01T00:00:{number:02}",
        "version": "5.3.1",
        "benchmarks": [{"fullname": name, "stats": {"median": median}} for name, median in medians.items()],
    }


def written(folder: Path, scale: float = 1.0, files: int = 6, **machine: Any) -> Path:
    folder.mkdir()
    for number in range(files):
        medians = {"t.py::test_admit": scale * (1e-3 + 1e-7 * number), "t.py::test_free[16]": 2e-3 + 1e-7 * number}
        (folder / f"{number}.json").write_text(json.dumps(content(number, medians, **machine)))
    return folder


def test_files_are_replicates(tmp_path: Path) -> None:
    side = load_side(written(tmp_path / "one"))
    assert side.table.groupby("key")["server_id"].nunique().tolist() == [6, 6]
    found = compare(side, load_side(written(tmp_path / "two", 1.5)), Rules())
    assert found.verdicts.set_index("point")["verdict"].to_dict() == {
        "t.py::test_admit": "regressed", "t.py::test_free[16]": "same",
    }  # fmt: skip
    assert found.verdicts["base"].iloc[0] == pytest.approx(1000.25)
    assert found.exit_code == 3


def test_one_file_is_one_process_however_many_rounds_it_holds(tmp_path: Path) -> None:
    one, two = (written(tmp_path / name, scale, files=1) / "0.json" for name, scale in (("one", 1.0), ("two", 2.0)))
    comparison = compare(load_side(one), load_side(two), Rules())
    assert set(comparison.verdicts["verdict"]) == {"insufficient"}
    assert comparison.exit_code == 4


def test_a_copied_file_is_no_second_replicate(tmp_path: Path) -> None:
    folder = written(tmp_path / "one", files=1)
    for number in range(5):
        (folder / f"copy{number}.json").write_text((folder / "0.json").read_text())
    comparison = compare(load_side(folder), load_side(written(tmp_path / "two")), Rules())
    assert set(comparison.verdicts["pairs"]) == {1}


def test_a_missing_baseline_entry_does_not_pass_silently(tmp_path: Path) -> None:
    base, candidate = written(tmp_path / "one"), written(tmp_path / "two")
    for path in base.iterdir():
        kept = json.loads(path.read_text())
        kept["benchmarks"].pop()
        path.write_text(json.dumps(kept))
    assert compare(load_side(base), load_side(candidate), Rules()).exit_code == 4


def test_another_processor_is_another_machine(tmp_path: Path) -> None:
    other = load_side(written(tmp_path / "two", cpu={"brand_raw": "another"}))
    comparison = compare(load_side(written(tmp_path / "one")), other, Rules())
    assert comparison.exit_code == 5
    assert comparison.machines.refused == ("cpu_model: a processor against another",)


def test_a_run_folder_made_of_benchmarks_compares_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    base, run_dir = written(tmp_path / "one"), tmp_path / "run"
    monkeypatch.setattr(sys, "argv", ["benchmark_to_run.py", str(base), str(run_dir)])
    assert benchmark_to_run.main() == 0
    assert load_side(run_dir).planned == load_side(base).planned
    assert read_state(run_dir).exit_code == 0
    monkeypatch.setattr(sys, "argv", ["compare_runs.py", str(run_dir), str(written(tmp_path / "two", 1.5))])
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    assert compare_runs.main() == 3
    monkeypatch.setattr(sys, "argv", ["benchmark_to_run.py", str(base), str(run_dir)])
    assert benchmark_to_run.main() == 2
    assert "holds a run already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "cannot be read as JSON"),
        ("[1]", "is neither a run folder nor what pytest-benchmark"),
        (json.dumps({**content(0, {}), "benchmarks": []}), "holds no benchmark"),
        (json.dumps(content(0, {"t": -1.0})), "the median of t is -1.0; it must be above 0 and finite"),
        (json.dumps(content(0, {"t": float("nan")})), "holds NaN"),
        (json.dumps(content(0, {"t": None})), "the median of t is None"),
        (json.dumps({**content(0, {}), "benchmarks": [{"name": "t"}]}), "a benchmark without a fullname"),
        (json.dumps({**content(0, {}), "benchmarks": [5]}), "a benchmark without a fullname"),
        (json.dumps({**content(0, {}), "benchmarks": 5}), "benchmarks must be a list of JSON"),
        (json.dumps({**content(0, {"t": 1.0}), "machine_info": ["x"]}), "machine_info must be an object of JSON"),
        (json.dumps(content(0, {"t": 1.0}, cpu="AMD")), "machine_info: cpu must be an object of JSON"),
        (json.dumps(content(0, {"t": True})), "the median of t is True"),
    ],
)
def test_bad_files(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "bad.json").write_text(text)
    with pytest.raises(ValueError, match=sentence.replace("(", r"\(")):
        load_side(tmp_path / "bad.json")


def test_an_old_file_names_its_processor_by_another_field(tmp_path: Path) -> None:
    """Before version 6 py-cpuinfo, and so pytest-benchmark, called it ``brand``."""
    (tmp_path / "old.json").write_text(json.dumps(content(0, {"t": 1.0}, cpu={"brand": "a processor"})))
    assert load_side(tmp_path / "old.json").facts["cpu_model"] == "a processor"


def test_files_of_two_machines_are_refused(tmp_path: Path) -> None:
    folder = written(tmp_path / "one")
    (folder / "other.json").write_text(json.dumps(content(9, {"t": 1.0}, machine="arm64")))
    with pytest.raises(ValueError, match="holds files of different machines"):
        load_side(folder)


def test_a_file_of_the_installed_pytest_benchmark_is_read(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text("def test_sum(benchmark):\n    benchmark(sum, range(1000))\n")
    made = tmp_path / "made.json"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", "-p", "no:cacheprovider", "--benchmark-max-time=0.05",
         f"--benchmark-json={made}", "test_it.py"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
        # Under xdist it would take itself for a worker, where pytest-benchmark measures nothing.
        env={name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    side = load_side(made)
    assert side.table["key"].tolist() == [key_of_benchmark("test_it.py::test_sum")]
    assert 0 < side.table["benchmark_us"].iloc[0] < 1e5
    assert side.facts["cpu_model"]
