"""The command line as a newcomer types it: real processes, real rows."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from bench.rows.columns import BY_NAME, NAMES
from tests.conftest import Run

SMALL = ("measure=quick", "num_seqs=3", "workload=fixed", "workload.length=17", "model.max_seq_len=64")
FOREIGN = "tests/cli/foreign"


def rows_of(run_dir: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted((run_dir / "points").glob("*.json"))]


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


def test_a_sweep_leaves_everything_that_is_promised(sweep: tuple[Any, Path], root: Path) -> None:
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


def test_the_printed_output_names_everything(sweep: tuple[Any, Path]) -> None:
    done, _ = sweep
    refused = "unsupported: paged_triton page_size=4: paged_triton requires device=cuda"
    for text in ("paged_torch", "contiguous", refused, "rows",
                 "table", "logs", "figures", "of harness per point"):  # fmt: skip
        assert text in done.stdout
    assert "[10/10]" in done.stderr


def test_rows_are_complete_and_add_up(sweep: tuple[Any, Path]) -> None:
    _, run_dir = sweep
    ok = [row for row in rows_of(run_dir) if row["status"] == "ok"]
    for row in ok:
        parts = ("live", "reserved", "internal_fragmentation", "external_fragmentation", "cached", "free")
        assert sum(row[f"{part}_bytes"] for part in parts) == row["pool_bytes"]
        assert row["admitted_seqs"] + row["refused_seqs"] == row["num_seqs"]
        assert row["decode_us_low"] <= row["decode_us"] <= row["decode_us_high"]
        assert row["max_rel_error"] <= row["allowed_rel_error"]
        assert row["live_tokens"] == 3 * 17
        for name in set(NAMES) - {"status_reason", "null_reasons"}:
            assert row[name] is not None or row["null_reasons"][name], name
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


def test_the_table_is_the_rows(sweep: tuple[Any, Path]) -> None:
    _, run_dir = sweep
    for table in (pd.read_csv(run_dir / "table.csv"), pd.read_parquet(run_dir / "table.parquet")):
        assert list(table.columns) == list(NAMES)
        assert sorted(table["key"]) == sorted(row["key"] for row in rows_of(run_dir))


def test_a_rows_repro_command_asks_and_counts_the_same(sweep: tuple[Any, Path], root: Path, tmp_path: Path) -> None:
    _, run_dir = sweep
    row = next(row for row in rows_of(run_dir) if row["implementation"] == "paged_torch")
    command = shlex.split(row["repro_command"])
    assert command[0] == "python"
    again = subprocess.run([sys.executable, *command[1:], f"run_dir={tmp_path / 'again'}"], cwd=root, check=False)
    assert again.returncode == 0
    (repeated,) = rows_of(tmp_path / "again")
    exact = ["key", *(name for name, column in BY_NAME.items() if column.kind == "exact")]
    assert {name: repeated[name] for name in exact} == {name: row[name] for name in exact}


def test_it_runs_as_a_module_and_moves_latest(bench: Run, root: Path) -> None:
    done = bench("-m", "impl=contiguous", *SMALL, module=True)
    assert done.returncode == 0, done.stderr
    latest = root / "results" / "runs" / "latest"
    assert latest.is_symlink()
    assert not os.path.isabs(os.readlink(latest))  # noqa: PTH115, PTH117
    (row,) = rows_of(latest)
    assert row["implementation"] == "contiguous"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("pagesize=4", "pagesize is not a configuration key. Did you mean page_size?"),
        ("page_size=0", "page_size=0 must be between 1 and 1024 tokens"),
        ("page_size=-3", "page_size=-3 must be between 1 and 1024 tokens"),
        ("page_size=4,0", "page_size=0 must be between 1 and 1024 tokens"),
        ("page_size=big", "page_size=big must be a whole number"),
        ("memory_budget=4Gigs", "memory_budget=4Gigs is not a size"),
        ("memory_budget=600KiB", "cannot hold one sequence (NEVER)"),
        ("impl=nope", "impl=nope is not known. Choose one of contiguous, "),
        ("workload=trace workload.path=missing.csv", "missing.csv does not exist"),
        ("workload=trace workload.path={tmp}/bad.csv", "bad.csv, line 3: prompt_len='x' must be a whole number"),
        ("workload=trace workload.path={tmp}/zero.csv", "line 2: prompt_len='0' must be a whole number of tokens, at"),
        ("workload=fixed workload.length=0", "workload.length=0 must be at least 1"),
        ("num_seqs=0", "num_seqs=0 must be at least 1"),
        ("job=0-0", "job=0-0 must not be set"),
        ("replicates=1,2", "replicates must have one value for the whole run"),
        ("experiment=page_size,page_layout", "experiment must have one value for the whole run"),
        ("page_size=1 page_size=", "page_size= must be a whole number"),
        ("+extra=1", "extra is not a configuration key"),
        ("--config-dir=missing impl=mine", "Additional config directory"),
    ],
)
def test_bad_input_is_one_sentence_and_no_folder(bench: Run, tmp_path: Path, arguments: str, sentence: str) -> None:
    (tmp_path / "bad.csv").write_text("arrival_s,prompt_len,output_len\n,5,5\n,x,5\n")
    (tmp_path / "zero.csv").write_text("arrival_s,prompt_len,output_len\n,0,5\n")
    run_dir = tmp_path / "run"
    done = bench("-m", *arguments.format(tmp=tmp_path).split(), f"run_dir={run_dir}")
    assert done.returncode == 2
    assert sentence in done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stdout == ""
    assert not run_dir.exists()


def test_cuda_without_a_device_is_bad_input(bench: Run, tmp_path: Path) -> None:
    done = bench("-m", "device=cuda", f"run_dir={tmp_path / 'run'}", env={"CUDA_VISIBLE_DEVICES": ""})
    assert done.returncode == 2
    assert "device=cuda, but torch finds no CUDA device here" in done.stderr
    assert not (tmp_path / "run").exists()


def test_a_plan_for_a_gpu_that_is_not_here_is_made_and_nothing_more(bench: Run, tmp_path: Path) -> None:
    arguments = ("-m", "device=cuda", "hardware=h100-80gb", "impl=paged_triton", f"run_dir={tmp_path / 'run'}")
    done = bench(*arguments, "dry_run=true", env={"CUDA_VISIBLE_DEVICES": ""})
    assert done.returncode == 0, done.stderr
    assert "1 points × 1 replicates, 0 duplicates merged, 0 points will not run" in done.stdout
    assert bench(*arguments, env={"CUDA_VISIBLE_DEVICES": ""}).returncode == 2
    too_large = bench(*arguments, "dry_run=true", "memory_budget=1000GiB", env={"CUDA_VISIBLE_DEVICES": ""})
    assert "oom_predicted" in too_large.stdout
    assert not (tmp_path / "run").exists()


def test_replicates_without_tensors_share_no_server(bench: Run, tmp_path: Path) -> None:
    small = ("scenario=notebook", "scenario.num_sequences=2", "scenario.num_sequences_list=[2]", "seed=1,2")
    done = bench("-m", *small, "replicates=3", f"run_dir={tmp_path / 'run'}")
    assert done.returncode == 0, done.stderr
    rows = rows_of(tmp_path / "run")
    servers = [{row["server_id"] for row in rows if row["replicate"] == number} for number in range(3)]
    assert all(servers)
    assert len(set.union(*servers)) == sum(len(ids) for ids in servers)


def test_a_sweep_that_measured_nothing_is_not_green(bench: Run, tmp_path: Path) -> None:
    foreign = ("--config-dir", FOREIGN, "-m", "impl=mine", "impl.options.fault=unsupported")
    done = bench(*foreign, *SMALL, f"run_dir={tmp_path / 'run'}")
    assert done.returncode == 4, done.stderr
    assert "nothing was measured: no row is ok" in done.stdout


def test_a_run_dir_is_not_written_twice(bench: Run, sweep: tuple[Any, Path]) -> None:
    _, run_dir = sweep
    done = bench("-m", "impl=contiguous", *SMALL, f"run_dir='{run_dir}'")
    assert done.returncode == 2
    assert "holds a run already" in done.stderr


def test_a_scenario_from_elsewhere_runs_and_is_planned(bench: Run, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    count = ("--config-dir", FOREIGN, "-m", "scenario=count")
    done = bench(*count, "scenario.up_to=3,5", f"run_dir={run_dir}")
    assert done.returncode == 0, done.stderr
    assert sorted(row["steps"] for row in rows_of(run_dir)) == [3, 5]
    resumed = bench("--config-dir", FOREIGN, f"resume={run_dir}")
    assert resumed.returncode == 0, resumed.stderr
    refused = bench(*count, "scenario.up_to=-1")
    assert (refused.returncode, refused.stderr) == (2, "error: scenario.up_to=-1 must be at least 0\n")


def test_an_implementation_from_elsewhere_and_its_faults(bench: Run, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    faults = "none,wrong,raise,exit,unsupported"
    done = bench("--config-dir", FOREIGN, "-m", "impl=mine", f"impl.options.fault={faults}", *SMALL,
                 f"run_dir={run_dir}")  # fmt: skip
    assert done.returncode == 4, done.stderr
    statuses = {row["repro_command"].split("fault=")[1].split()[0]: row for row in rows_of(run_dir)}
    assert {fault: row["status"] for fault, row in statuses.items()} == {
        "none": "ok", "wrong": "incorrect", "raise": "crashed", "exit": "crashed", "unsupported": "unsupported",
    }  # fmt: skip
    assert statuses["wrong"]["decode_us"] is None, "what is wrong is never timed"
    assert "RuntimeError: planted" in statuses["raise"]["status_reason"]
    assert statuses["exit"]["status_reason"] == "ended with exit code 3 and no answer"
    assert f"--config-dir={Path(FOREIGN).absolute()}" in statuses["none"]["repro_command"]
    for fault in ("wrong", "raise", "exit"):
        assert f"(log: {statuses[fault]['log']})" in done.stdout


def test_ctrl_c_leaves_whole_rows_and_exits_130(root: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    process = subprocess.Popen(
        [sys.executable, "bench/run.py", "-m", "impl=contiguous", "seed=range(40)", *SMALL, f"run_dir={run_dir}"],
        cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not list(run_dir.glob("points/*.json")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    rows = rows_of(run_dir)
    assert 0 < len(rows) < 40
    assert {row["status"] for row in rows} == {"ok"}
    assert f"{40 - len(rows)} of 40 planned rows are missing" in out
    assert len(pd.read_csv(run_dir / "table.csv")) == len(rows)
    assert "Traceback" not in err


def test_cfg_job_is_quick_to_say_and_imports_no_torch(root: Path) -> None:
    script = (
        "import sys, runpy; sys.argv = ['bench/run.py', '--cfg', 'job']\n"
        "try:\n    runpy.run_path('bench/run.py', run_name='__main__')\n"
        "finally:\n    assert not {'torch', 'scipy', 'pandas'} & set(sys.modules), 'heavy imports'"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "page_size: 16" in done.stdout


def test_a_reader_who_goes_away_is_no_error(root: Path) -> None:
    """As in ``python scripts/make_figures.py --list | head -1``."""
    command = [sys.executable, root / "scripts" / "make_figures.py", "--list"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 141


def test_help_says_what_it_is_and_how_it_ends(root: Path) -> None:
    done = subprocess.run([sys.executable, root / "bench" / "run.py", "--help"], capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stdout.startswith("Benchmark paged attention")
    assert "Exit codes: 0" in done.stdout
    assert "Traceback" not in done.stderr
