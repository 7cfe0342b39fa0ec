"""Bad input ends a command with exit code 2, one sentence and no run folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import Run

BAD_INPUT = [
    ("pagesize=4", "pagesize is not a configuration key. Did you mean page_size?"),
    ("page_size=0", "page_size=0 must be between 1 and 4096 tokens"),
    ("page_size=-3", "page_size=-3 must be between 1 and 4096 tokens"),
    ("page_size=4,0", "page_size=0 must be between 1 and 4096 tokens"),
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
]
STARTED = ["pagesize=4", "page_size=4,0", "memory_budget=600KiB"]
"""Those that a new interpreter runs too: Hydra's own error, one of ours, and one after the device was probed."""


def check_bad_input(run: Run, folder: Path, arguments: str) -> None:
    """Run the command and check its exit code, its one sentence and that it left no folder."""
    (folder / "bad.csv").write_text("arrival_s,prompt_len,output_len\n,5,5\n,x,5\n")
    (folder / "zero.csv").write_text("arrival_s,prompt_len,output_len\n,0,5\n")
    done = run("-m", *arguments.format(tmp=folder).split(), f"run_dir={folder / 'run'}")
    assert done.returncode == 2
    assert dict(BAD_INPUT)[arguments] in done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stdout == ""
    assert not (folder / "run").exists()


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize("arguments", [arguments for arguments, _ in BAD_INPUT])
def test_bad_input_is_one_sentence_and_no_folder(bench: Run, tmp_path: Path, arguments: str) -> None:
    check_bad_input(bench, tmp_path, arguments)


@pytest.mark.parametrize("arguments", STARTED)
def test_bad_input_ends_the_process_with_2(bench_process: Run, tmp_path: Path, arguments: str) -> None:
    check_bad_input(bench_process, tmp_path, arguments)


def test_cuda_without_a_device_is_bad_input(bench: Run, tmp_path: Path) -> None:
    done = bench("-m", "device=cuda", f"run_dir={tmp_path / 'run'}", env={"CUDA_VISIBLE_DEVICES": ""})
    assert done.returncode == 2
    assert "device=cuda, but torch finds no CUDA device here" in done.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("no_gpu")
def test_a_plan_for_an_absent_gpu_is_made_but_not_run(bench: Run, tmp_path: Path) -> None:
    arguments = ("-m", "device=cuda", "hardware=h100-80gb", "impl=paged_triton", f"run_dir={tmp_path / 'run'}")
    done = bench(*arguments, "dry_run=true")
    assert done.returncode == 0, done.stderr
    assert "1 point × 1 replicate, 0 duplicates merged, 0 points will not run" in done.stdout
    assert bench(*arguments).returncode == 2
    too_large = bench(*arguments, "dry_run=true", "memory_budget=400GiB", "page_size=1024")
    assert "oom_predicted" in too_large.stdout
    assert not (tmp_path / "run").exists()
