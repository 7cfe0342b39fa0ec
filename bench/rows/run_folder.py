"""The folder of one run: its place, its contents, and the link to the latest one."""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bench import ROOT
from bench.rows.json_file import write_json
from bench.rows.json_input import check_shape, read_json
from bench.rows.record import read_row

RUNS = ROOT / "results" / "runs"
FOLDERS = ("points", "samples", "logs", "figures")


def create_run_folder(run_dir: str | None) -> Path:
    """Make an empty run folder. Return its path.

    Of several processes that use one path at the same moment, one gets the folder and the others get an error.

    Args:
        run_dir: relative to the caller. It must be absent or empty. ``None`` makes a new folder under
            ``results/runs/``.

    Raises:
        ValueError: the folder contains something, or cannot be written.
    """
    if run_dir is not None and not run_dir.strip():
        raise ValueError(f"run_dir={run_dir!r} must be the path of a folder that is absent or empty")
    # Two runs can start in the same second, and a clock can go back. The suffix makes the names differ.
    name = time.strftime("%Y%m%d-%H%M%S-") + secrets.token_hex(2)
    folder = RUNS / name if run_dir is None else Path(run_dir).absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _require_empty(folder, run_dir)
        (folder / FOLDERS[0]).mkdir()  # exclusive: only one of several processes can make it
        for part in FOLDERS[1:]:
            (folder / part).mkdir(exist_ok=True)
    except FileExistsError:
        raise ValueError(f"run_dir={run_dir} must be a folder that no other run uses. Choose another folder") from None
    except OSError as error:
        raise ValueError(f"run_dir={folder} cannot be written: {error.strerror}") from error
    return folder


def _require_empty(folder: Path, run_dir: str | None) -> None:
    """Check that a folder is empty.

    Raises:
        ValueError: it contains a run or other files.
    """
    if (folder / "plan.json").exists():
        raise ValueError(f"run_dir={run_dir} holds a run already. Continue it with resume={run_dir}, choose another "
                         "folder, or delete it")  # fmt: skip
    found = next(folder.iterdir(), None)
    if found is not None:
        raise ValueError(f"run_dir={run_dir} must be absent or empty, because a run writes many files to it. It holds "
                         f"{found.name}. Choose another folder")  # fmt: skip


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
    """Return the facts that ``write_environment`` stored.

    Raises:
        ValueError: the file is absent or wrong.
    """
    path = run_dir / "environment.json"
    if not path.exists():
        raise ValueError(f"{run_dir} is no whole run folder: it has no {path.name}. Start a new run")
    facts: dict[str, Any] = read_json(path, "environment")
    check_shape(facts, _ENVIRONMENT, path)
    return facts


_ENVIRONMENT = {"fingerprint": str, "git?": (dict, None), "calibration?": (dict, None)}


def earlier_seconds(keys: Iterable[str]) -> dict[str, float]:
    """Return the mean seconds of the points of these keys, over the rows of all runs under ``results/runs/``."""
    took: dict[str, list[float]] = {}
    for key in keys:
        for path in RUNS.glob(f"*/points/{key}-*.json"):
            with contextlib.suppress(ValueError, OSError, TypeError, KeyError):  # a bad row of another run
                row = read_row(path)
                if row["status"] == "ok":
                    took.setdefault(key, []).append(float(row["measured_s"] + row["harness_s"]))
    return {key: sum(seconds) / len(seconds) for key, seconds in took.items()}


def display_path(path: Path) -> str:
    """Return the path relative to the caller, or the absolute one if it is shorter."""
    relative = os.path.relpath(path)
    return relative if not relative.startswith("../..") else str(path)
