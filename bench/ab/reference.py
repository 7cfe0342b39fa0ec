"""Make the reference: points with equal counters on every machine, from small sweeps, stored as one run folder.

``results/reference/<hardware>/`` holds such a folder. A change of the code that moves a counter is found when
the sweeps run again and are compared.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from bench import ROOT
from bench.ab.rounds import merge
from bench.ab.sweeps import Arm, run_sweeps
from bench.rows.json_file import write_json
from bench.rows.json_input import check_shape, read_json
from bench.runner.job import RUN_CONTROL

BOOKKEEPING: Final = (
    ("scenario=capacity", "policy=reserved_max,reserved_pow2,reserved_oracle,paged", "page_size=4,64",
     "memory_budget=16MiB"),
    ("scenario=churn", "policy=reserved_max,reserved_pow2,reserved_oracle,paged", "page_size=4,64", "num_seqs=60",
     "memory_budget=16MiB"),
    ("scenario=churn", "policy=reserved_pow2,reserved_oracle", "policy.arena=buddy", "num_seqs=60",
     "memory_budget=16MiB"),
    ("scenario=serving", "policy=reserved_oracle,paged,prefix", "scenario.preemption=recompute,swap", "num_seqs=40",
     "memory_budget=8MiB", "workload.high=900", "scenario.rate=20", "scenario.shared_prefix_tokens=40"),
    ("scenario=serving", "scenario.sampling=parallel,beam", "scenario.num_samples=4", "num_seqs=20",
     "memory_budget=8MiB", "scenario.rate=20"),
)  # fmt: skip
"""Sweeps without tensors."""

SMALL_DECODE: Final = ("impl=contiguous,paged_torch", "num_seqs=2", "measure=quick", "device=cpu")
"""A decode step that takes little time."""

DEFAULT_SWEEP: Final = ("impl=contiguous,paged_torch", "page_size=4,16,64", "device=cpu")
"""The sweep of ``make bench`` on a CPU."""

SWEEPS: Final = (DEFAULT_SWEEP, SMALL_DECODE, *BOOKKEEPING)
"""Sweeps of a reference, each as arguments of ``python bench/run.py -m``."""


def make_reference(folder: Path, *, renew: bool = False, sweeps: Sequence[Sequence[str]] = SWEEPS) -> int:
    """Run the sweeps in this checkout, and store the files of a comparison: plan, environment, rows.

    Args:
        folder: folder of the reference. It is created if absent.
        renew: replace an existing reference.
        sweeps: sweeps to run.

    Returns:
        The number of points.

    Raises:
        ValueError: the folder has other files, or a reference without ``renew``, or a sweep is bad input.
    """
    _check_place(folder, renew=renew)
    with tempfile.TemporaryDirectory(prefix="bench-reference-") as scratch:
        runs = [Path(scratch) / f"sweep-{number}" for number in range(len(sweeps))]
        for overrides, run in zip(sweeps, runs, strict=True):
            run_sweeps([Arm(name="reference", root=ROOT)], overrides, {"reference": run})
        whole = Path(scratch) / "whole"
        merge([runs], whole, {})
        shutil.rmtree(folder / "points", ignore_errors=True)
        (folder / "points").mkdir(parents=True)
        for path in sorted((whole / "points").glob("*.json")):
            write_json(folder / "points" / path.name, {**_read(path), "log": None})
        plan, facts = _read(whole / "plan.json"), _read(whole / "environment.json")
    git = {**(facts["git"] or {}), "remotes": []}  # remotes can be paths of this machine
    write_json(folder / "environment.json", {**facts, "argv": ["scripts/reference.py"], "git": git})
    write_json(folder / "plan.json", {**plan, "points": [_lasting(point) for point in plan["points"]]})
    return len(plan["points"])


def _check_place(folder: Path, *, renew: bool) -> None:
    there = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if folder.is_file() or there - {"plan.json", "environment.json", "points"}:
        raise ValueError(f"{folder} has files of another kind. Choose another folder")
    if there and not renew:
        raise ValueError(f"{folder} already has a reference. --renew replaces it")


def _lasting(point: dict[str, Any]) -> dict[str, Any]:
    """Return a planned point without the parts that depend on its own run."""
    kept = [override for override in point["overrides"] if override.partition("=")[0] not in RUN_CONTROL]
    return {**point, "overrides": kept, "values": {**point["values"], "run_dir": None}}


def _read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = read_json(path)
    check_shape(content, {}, path)
    return content
