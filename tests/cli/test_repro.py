"""The repro command of every row gives the same question and the same counters."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.rows.columns import BY_NAME
from tests.conftest import Run

SMALL = ("measure=quick", "measure.max_s=0", "num_seqs=2,3", "workload=fixed", "workload.length=9",
         "model.max_seq_len=16", "device=cpu")  # fmt: skip
EXACT = ["key", *(name for name, column in BY_NAME.items() if column.kind == "exact")]


def rows_of(run_dir: Path) -> dict[str, dict[str, Any]]:
    rows = [json.loads(path.read_text()) for path in (run_dir / "points").glob("*.json")]
    return {row["key"]: row for row in rows}


@pytest.mark.slow
def test_the_repro_command_of_every_row_gives_the_same_counters(bench: Run, root: Path, tmp_path: Path) -> None:
    done = bench("-m", "impl=contiguous,paged_torch", "page_size=4,16", *SMALL, f"run_dir={tmp_path / 'run'}")
    assert done.returncode == 0, done.stderr
    rows = rows_of(tmp_path / "run")
    assert len(rows) == 6
    for key, row in rows.items():
        command = shlex.split(row["repro_command"])
        again = tmp_path / key
        subprocess.run([sys.executable, *command[1:], f"run_dir={again}"], cwd=root, check=True, capture_output=True)
        (repeated,) = rows_of(again).values()
        assert {name: repeated[name] for name in EXACT} == {name: row[name] for name in EXACT}
