"""The calibration of the harness: its parts on known input, and the whole on a CPU."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.measure.calibration import TARGETS_US, agreement, noise_floor, resolution_us
from scripts import calibrate
from tests.support.commands import script_in_process


def test_the_noise_floor_is_of_all_pairs() -> None:
    assert noise_floor([7.0] * 5) == 0
    assert noise_floor([1.0, math.e]) == pytest.approx(1.0)
    assert noise_floor([10.0, 11.0, 10.5]) <= math.log(1.1)


def test_timers_are_compared_with_the_first() -> None:
    noise = [{"target_us": 5.0, "timer": "events", "median_us": 6.0}, {"target_us": 5.0, "timer": "graph",
             "median_us": 3.0}, {"target_us": 50.0, "timer": "events", "median_us": 50.0}]  # fmt: skip
    assert [entry["ratio"] for entry in agreement(noise)] == [1.0, 0.5, 1.0]


def test_the_host_clock_has_a_resolution() -> None:
    assert 0 < (resolution_us("perf_counter") or 0) < 10


def test_a_calibration_of_a_cpu(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "calibration.json"
    done = subprocess.run(
        [sys.executable, "scripts/calibrate.py", "--device", "cpu", "--runs", "2", "--max-s", "0", "--ceiling-bytes",
         str(2**22), "--out", str(out)], cwd=root, capture_output=True, text=True, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},  # two threads on a busy machine wait for each other
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    made = json.loads(out.read_text())
    assert made["environment"]["fingerprint"]
    assert made["ceilings"]["read_gbps"] > 0
    assert made["ceilings"]["copy_gbps"] > 0
    assert [entry["target_us"] for entry in made["noise"]] == list(TARGETS_US)
    assert all(entry["aa_floor_ratio"] >= 0 and len(entry["medians_us"]) == 2 for entry in made["noise"])
    assert made["overhead_us"]["perf_counter"] < 5


def test_bad_input_is_one_sentence(tmp_path: Path) -> None:
    done = script_in_process(calibrate, "--runs", "1", "--out", str(tmp_path / "x.json"))
    assert (done.returncode, done.stderr) == (2, "error: --runs 1 must be at least 2\n")
    assert not (tmp_path / "x.json").exists()
