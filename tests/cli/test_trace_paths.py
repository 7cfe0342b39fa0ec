"""A trace below a folder with any name is found from any folder, and its repro command runs."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from tests.conftest import Run

NAMES = ["é漢", "com,ma", "eq=ual", "br[ack]", "tilde~x", "sp ace", "quo'te", 'dou"ble', "pa(ren)", "ha#sh", "back\\x"]
SMALL = ("scenario=lengths", "workload=trace", "num_seqs=2", "model.max_seq_len=2048", "draw=false")


def trace_in(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "t.csv").write_text("arrival_s,prompt_len,output_len\n0,5,5\n1,7,5\n")
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_a_relative_path_below_such_a_folder(bench: Run, tmp_path: Path, name: str) -> None:
    folder = trace_in(tmp_path / name)
    done = bench("-m", *SMALL, "workload.path=t.csv", "run_dir=run", cwd=folder)
    assert done.returncode == 0, done.stderr
    (row,) = (folder / "run" / "points").glob("*.json")
    command = shlex.split(json.loads(row.read_text())["repro_command"])
    again = bench(*command[2:], f"run_dir={tmp_path / 'again'}", "draw=false")
    assert again.returncode == 0, again.stderr
    assert [path.name for path in (tmp_path / "again" / "points").iterdir()] == [row.name]
    row.unlink()
    assert bench("resume=run", "draw=false", cwd=folder).returncode == 0


def test_a_quoted_path_becomes_absolute(bench: Run, tmp_path: Path) -> None:
    trace_in(tmp_path / "date=2026-06-01")
    done = bench("-m", *SMALL, 'workload.path="date=2026-06-01/t.csv"', "run_dir=run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (row,) = (tmp_path / "run" / "points").glob("*.json")
    command = shlex.split(json.loads(row.read_text())["repro_command"])
    assert bench(*command[2:], f"run_dir={tmp_path / 'again'}", "draw=false").returncode == 0


@pytest.mark.parametrize("path", ["date=2026/t.csv", "é/t.csv", "a~b", "a(b", "a[b", "a'b"])
def test_a_path_without_quotes_is_one_sentence_with_the_remedy(bench: Run, tmp_path: Path, path: str) -> None:
    done = bench("-m", *SMALL, f"workload.path={path}", f"run_dir={tmp_path / 'run'}")
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: workload.path={path} cannot be read (")
    assert done.stderr.count("\n") == 1
    remedy = shlex.split(done.stderr.rpartition("Put the value in quotes: ")[2])
    (tmp_path / Path(path).parent).mkdir(exist_ok=True)
    (tmp_path / path).write_text("arrival_s,prompt_len,output_len\n0,5,5\n1,7,5\n")
    assert bench("-m", *SMALL, *remedy, "run_dir=run", cwd=tmp_path).returncode == 0
