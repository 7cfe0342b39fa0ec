"""Sweeps from the command line: what they print, and what they leave in the run folder."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from bench.rows.columns import BY_NAME, MAY_BE_NULL, NAMES
from tests.conftest import Run
from tests.support.rows import row_of_only_point, rows_of

SMALL = ("measure=quick", "num_seqs=3", "workload=fixed", "workload.length=17", "model.max_seq_len=64")
NOTEBOOK = ("scenario=notebook", "scenario.num_sequences=2", "scenario.num_sequences_list=[2]", "draw=false")
FOREIGN = "tests/cli/foreign"


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory, root: Path) -> tuple[subprocess.CompletedProcess[str], Path]:
    """One small sweep over all implementations, from another folder, into a folder with an odd name."""
    elsewhere = tmp_path_factory.mktemp("else where")
    done = subprocess.run(
        [sys.executable, str(root / "bench" / "run.py"), "-m", "page_size=4,16", *SMALL, "replicates=2",
         "device=cpu", "run_dir='my rüns'"],
        cwd=elsewhere, capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    return done, elsewhere / "my rüns"


def test_a_sweep_leaves_every_promised_file(sweep: tuple[Any, Path], root: Path) -> None:
    done, run_dir = sweep
    assert done.returncode == 0, done.stderr
    parts = {"points", "samples", "leases", "logs", "figures", "plan.json", "environment.json", "config.yaml",
             "table.csv", "table.parquet"}  # fmt: skip
    assert {path.name for path in run_dir.iterdir()} == parts
    plan = json.loads((run_dir / "plan.json").read_text())
    assert len(plan["points"]) == 5, "contiguous once; the paged ones at two page sizes"
    rows = rows_of(run_dir)
    assert {(row["key"], row["replicate"]) for row in rows} == {
        (point["key"], replicate) for point in plan["points"] for replicate in (0, 1)
    }
    assert {row["status"] for row in rows if row["implementation"] != "paged_triton"} == {"ok"}
    assert {row["status"] for row in rows if row["implementation"] == "paged_triton"} == {"unsupported"}
    drawn = {path.name for path in (run_dir / "figures").iterdir()}
    assert drawn == {f"{name}.{end}" for name in ("decode_latency", "memory_split", "admitted_seqs")
                     for end in ("png", "svg", "csv")}  # fmt: skip
    latest = root / "results" / "runs" / "latest"
    assert not latest.exists() or latest.resolve() != run_dir.resolve(), "an explicit run_dir moves no link"


def test_the_printed_output_names_every_result(sweep: tuple[Any, Path]) -> None:
    done, _ = sweep
    refused = "unsupported: paged_triton page_size=4: paged_triton requires device=cuda"
    for text in ("paged_torch", "contiguous", refused, "rows",
                 "table", "logs", "figures", "of harness per row"):  # fmt: skip
        assert text in done.stdout
    assert "[10/10]" in done.stderr


def test_rows_are_complete_and_their_parts_add_up(sweep: tuple[Any, Path]) -> None:
    _, run_dir = sweep
    ok = [row for row in rows_of(run_dir) if row["status"] == "ok"]
    for row in ok:
        parts = ("live", "reserved", "internal_fragmentation", "external_fragmentation", "cached", "free")
        assert sum(row[f"{part}_bytes"] for part in parts) == row["pool_bytes"]
        assert row["admitted_seqs"] + row["refused_seqs"] == row["num_seqs"]
        assert row["decode_us_low"] <= row["decode_us"] <= row["decode_us_high"]
        assert row["max_rel_error"] <= row["allowed_rel_error"]
        assert row["live_tokens"] == 3 * 17
        for name in set(NAMES) - set(MAY_BE_NULL):
            assert row[name] is not None or row["null_reasons"][name], name
        assert row["log"], "every point that ran has a log"
    assert len({row["batch_digest"] for row in ok}) == 1, "the default compares equal work"
    servers = {row["replicate"]: {r["server_id"] for r in ok if r["replicate"] == row["replicate"]} for row in ok}
    assert all(len(ids) == 1 for ids in servers.values()), "one fork server per round"
    assert servers[0] != servers[1]
    assert all(row["rounds_interleaved"] for row in ok)


def test_exact_columns_agree_between_replicates(sweep: tuple[Any, Path]) -> None:
    _, run_dir = sweep
    exact = [name for name, column in BY_NAME.items() if column.kind == "exact"]
    by_key: dict[str, list[tuple[Any, ...]]] = {}
    for row in rows_of(run_dir):
        by_key.setdefault(row["key"], []).append(tuple(row[name] for name in exact))
    assert all(len(set(answers)) == 1 for answers in by_key.values())


def test_the_table_holds_the_rows(sweep: tuple[Any, Path]) -> None:
    _, run_dir = sweep
    for table in (pd.read_csv(run_dir / "table.csv"), pd.read_parquet(run_dir / "table.parquet")):
        assert list(table.columns) == list(NAMES)
        assert sorted(table["key"]) == sorted(row["key"] for row in rows_of(run_dir))


def test_the_repro_command_of_a_row_gives_the_same_counters(
    bench: Run, sweep: tuple[Any, Path], tmp_path: Path
) -> None:
    _, run_dir = sweep
    row = next(row for row in rows_of(run_dir) if row["implementation"] == "paged_torch")
    python, script, *arguments = shlex.split(row["repro_command"])
    assert (python, script) == ("python", "bench/run.py")
    again = bench(*arguments, "draw=false", f"run_dir={tmp_path / 'again'}")
    assert again.returncode == 0, again.stderr
    repeated = row_of_only_point(tmp_path / "again")
    exact = ["key", *(name for name, column in BY_NAME.items() if column.kind == "exact")]
    assert {name: repeated[name] for name in exact} == {name: row[name] for name in exact}


def test_it_runs_as_a_module_and_moves_latest(bench_process: Run, root: Path) -> None:
    done = bench_process("-m", *NOTEBOOK, module=True)
    assert done.returncode == 0, done.stderr
    latest = root / "results" / "runs" / "latest"
    assert latest.is_symlink()
    assert not os.path.isabs(os.readlink(latest))  # noqa: PTH115, PTH117
    assert row_of_only_point(latest)["scenario"] == "notebook"


def test_replicates_without_tensors_share_no_server(bench: Run, tmp_path: Path) -> None:
    done = bench("-m", *NOTEBOOK, "seed=1,2", "replicates=3", f"run_dir={tmp_path / 'run'}")
    assert done.returncode == 0, done.stderr
    rows = rows_of(tmp_path / "run")
    servers = [{row["server_id"] for row in rows if row["replicate"] == number} for number in range(3)]
    assert all(servers)
    assert len(set.union(*servers)) == sum(len(ids) for ids in servers)


def test_a_scenario_from_another_folder_runs_and_is_planned(bench: Run, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    count = ("--config-dir", FOREIGN, "-m", "scenario=count", "draw=false")
    done = bench(*count, "scenario.up_to=3,5", f"run_dir={run_dir}")
    assert done.returncode == 0, done.stderr
    assert sorted(row["steps"] for row in rows_of(run_dir)) == [3, 5]
    resumed = bench("--config-dir", FOREIGN, f"resume={run_dir}", "draw=false")
    assert resumed.returncode == 0, resumed.stderr
    refused = bench(*count, "scenario.up_to=-1")
    assert (refused.returncode, refused.stderr) == (2, "error: scenario.up_to=-1 must be at least 0\n")


def test_each_fault_of_an_implementation_from_another_folder_is_a_row(bench: Run, root: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    faults = "none,wrong,raise,exit,unsupported"
    done = bench("--config-dir", FOREIGN, "-m", "impl=mine", f"impl.options.fault={faults}", *SMALL, "draw=false",
                 f"run_dir={run_dir}")  # fmt: skip
    assert done.returncode == 4, done.stderr
    statuses = {row["repro_command"].split("fault=")[1].split()[0]: row for row in rows_of(run_dir)}
    assert {fault: row["status"] for fault, row in statuses.items()} == {
        "none": "ok", "wrong": "incorrect", "raise": "crashed", "exit": "crashed", "unsupported": "unsupported",
    }  # fmt: skip
    assert statuses["wrong"]["decode_us"] is None, "what is wrong is never timed"
    assert "RuntimeError: planted" in statuses["raise"]["status_reason"]
    assert statuses["exit"]["status_reason"] == "ended with exit code 3 and no answer"
    assert f"--config-dir={root / FOREIGN}" in statuses["none"]["repro_command"]
    for fault in ("wrong", "raise", "exit"):
        assert f"(log: {statuses[fault]['log']})" in done.stdout


def test_a_sweep_without_an_ok_row_exits_4(bench: Run, tmp_path: Path) -> None:
    foreign = ("--config-dir", FOREIGN, "-m", "impl=mine", "impl.options.fault=unsupported")
    done = bench(*foreign, *SMALL, "measure.weigh=false", f"run_dir={tmp_path / 'run'}")
    assert done.returncode == 4, done.stderr
    assert "nothing was measured: no row is ok" in done.stdout


def test_a_run_folder_is_not_written_twice(bench: Run, sweep: tuple[Any, Path]) -> None:
    _, run_dir = sweep
    done = bench("-m", *NOTEBOOK, f"run_dir='{run_dir}'")
    assert done.returncode == 2
    assert "holds a run already" in done.stderr
