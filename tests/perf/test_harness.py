"""What the harness itself costs: whole commands, harness seconds apart from measured seconds. No time is asserted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT

pytestmark = [pytest.mark.perf, pytest.mark.timeout(600)]


def seconds(*arguments: str) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "bench/run.py", *arguments], cwd=ROOT, check=True, capture_output=True)
    return time.perf_counter() - started


def report(name: str, run_dir: Path, wall_s: float) -> None:
    rows: list[dict[str, Any]] = [json.loads(path.read_text()) for path in (run_dir / "points").glob("*.json")]
    ran = [row for row in rows if row["measured_s"]]
    measured_s = sum(row["measured_s"] for row in ran)
    harness_ms = 1000 * sum(row["harness_s"] for row in ran) / len(ran)
    print(
        f"\n{name}: {len(rows)} points in {wall_s:.1f} s on {os.cpu_count()} cores; {measured_s:.1f} s inside points, "
        f"{harness_ms:.1f} ms of harness per point that ran, {1000 * wall_s / len(rows):.1f} ms per point in all"
    )


def benchmark_composing_a_configuration() -> None:
    took = [seconds("--cfg", "job") for _ in range(5)]
    print(f"\n--cfg job: {min(took):.2f} to {max(took):.2f} s")


def benchmark_two_thousand_points_without_tensors(tmp_path: Path) -> None:
    lists = ("num_sequences_list=[2]", "page_sizes=[16]", "memory_sizes=[1e5]")  # little to compute: the harness shows
    small = ("scenario.num_sequences=2", *(f"scenario.{one}" for one in lists))
    wall_s = seconds("-m", "scenario=notebook", "seed=range(2000)", *small, f"run_dir={tmp_path / 'run'}")
    report("policy-only points", tmp_path / "run", wall_s)


def benchmark_points_with_tensors(tmp_path: Path) -> None:
    small = ("impl=contiguous,paged_torch", "measure=quick", "num_seqs=2", "model.max_seq_len=128")
    uniform = ("workload.high=128", "page_size=4,8,16,32")
    wall_s = seconds("-m", *small, *uniform, f"run_dir={tmp_path / 'run'}")
    report("points with tensors", tmp_path / "run", wall_s)


def benchmark_the_default_sweep(tmp_path: Path) -> None:
    wall_s = seconds("-m", "page_size=4,16,64", f"run_dir={tmp_path / 'run'}")
    report("the default sweep", tmp_path / "run", wall_s)
