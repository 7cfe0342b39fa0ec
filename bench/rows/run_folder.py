"""The folder of one run: its place, its contents, and the link to the latest one."""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bench import ROOT
from bench.rows.json_file import write_json
from bench.rows.record import read_row

RUNS = ROOT / "results" / "runs"
FOLDERS = ("points", "samples", "logs", "figures")


def create_run_folder(run_dir: str | None) -> Path:
    """Make an empty run folder. Return its path.

    Args:
        run_dir: relative to the caller. ``None`` makes a new folder under ``results/runs/``.

    Raises:
        ValueError: the folder contains a run, or cannot be written.
    """
    # Two runs can start in the same second, and a clock can go back. The suffix makes the names differ.
    name = time.strftime("%Y%m%d-%H%M%S-") + secrets.token_hex(2)
    folder = RUNS / name if run_dir is None else Path(run_dir).absolute()
    if (folder / "plan.json").exists():
        raise ValueError(f"run_dir={run_dir} holds a run already. Choose another folder or delete it")
    try:
        for part in FOLDERS:
            (folder / part).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"run_dir={folder} cannot be written: {error.strerror}") from error
    return folder


def point_latest_at(run_dir: Path) -> None:
    """Point ``results/runs/latest`` at a folder under ``results/runs/``. The link exists at every moment."""
    if run_dir.parent != RUNS:
        return
    fresh = RUNS / f".latest-{secrets.token_hex(4)}"
    fresh.symlink_to(run_dir.name)
    os.replace(fresh, RUNS / "latest")


def write_environment(run_dir: Path, facts: dict[str, Any]) -> None:
    """Store ``environment.json``."""
    write_json(run_dir / "environment.json", facts)


def read_environment(run_dir: Path) -> dict[str, Any]:
    """Return the facts that ``write_environment`` stored."""
    facts: dict[str, Any] = json.loads((run_dir / "environment.json").read_text(encoding="utf-8"))
    return facts


def earlier_seconds(keys: Iterable[str]) -> dict[str, float]:
    """Return the mean seconds of the points of these keys, over the rows of all runs under ``results/runs/``."""
    took: dict[str, list[float]] = {}
    for key in keys:
        for path in RUNS.glob(f"*/points/{key}-*.json"):
            row = read_row(path)
            if row["status"] == "ok":
                took.setdefault(key, []).append(row["measured_s"] + row["harness_s"])
    return {key: sum(seconds) / len(seconds) for key, seconds in took.items()}


def display_path(path: Path) -> str:
    """Return the path relative to the caller, or the absolute one if it is shorter."""
    relative = os.path.relpath(path)
    return relative if not relative.startswith("../..") else str(path)
