"""Leases: each running job has a file that its process creates exclusively and touches regularly.

Several processes may work on one run folder, on one machine or on many. A lease is free if its process is dead. Only
a process in the same PID namespace since the same boot can see that. For others, a lease is free after three missed
beats. They watch it for one more beat before they take it over, because a clock can be set forward.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import filelock

from bench.rows.json_input import check_shape, read_json
from bench.rows.owner import boot, pid_namespace, start_ticks

LEASES = "leases"
"""Folder of the leases in a run folder."""
BEAT_S = 5.0
"""Seconds between two touches of a lease."""
MISSED_BEATS = 3
POLL_S = 1.0
STALE_S = (MISSED_BEATS + 1) * BEAT_S
"""After this time without a touch, another process can certainly take over the lease."""

SCHEDULER_JOB = ("SLURM_JOB_ID", "RAY_JOB_ID", "PBS_JOBID")
"""Environment variables with the number of a scheduler's job."""


def lease_path(run_dir: Path, name: str) -> Path:
    """Return the lease file of a job.

    Args:
        run_dir: the run folder.
        name: ``<key>-<replicate>``.
    """
    return run_dir / LEASES / f"{name}.json"


@contextlib.contextmanager
def hold_lease(run_dir: Path, name: str, wait_s: float = 0.0) -> Iterator[bool]:
    """Hold the lease of one job during the block. Yields ``False`` if another process holds it.

    Args:
        run_dir: the run folder, on a file system that all workers share.
        name: ``<key>-<replicate>``.
        wait_s: seconds to wait until the lease of another process becomes free.
    """
    path = lease_path(run_dir, name)
    path.parent.mkdir(exist_ok=True)
    deadline = time.monotonic() + wait_s
    while not (inode := _acquire(path)) and time.monotonic() < deadline:
        time.sleep(POLL_S)
    if not inode:
        yield False
        return
    stop = threading.Event()
    beating = threading.Thread(target=_beat, args=(path, inode, stop), daemon=True)
    beating.start()
    try:
        yield True
    finally:
        stop.set()
        beating.join()
        if _inode(path) == inode:  # another process may have taken over after missed beats
            path.unlink(missing_ok=True)


def _acquire(path: Path) -> int:
    """Create the lease file if the lease is free. Return its inode, or 0 if another process holds the lease.

    The file is created exclusively, because on some file systems a lock has no effect on other nodes.
    """
    if not is_free(path) or _still_beats(path):
        return 0
    with filelock.FileLock(path.parent / ".lock"):  # two processes must not take over the same lease
        if not is_free(path):
            return 0
        path.unlink(missing_ok=True)
        try:
            with path.open("x", encoding="utf-8") as file:
                file.write(json.dumps(_this_process()))
                return os.fstat(file.fileno()).st_ino
        except FileExistsError:
            return 0


def _still_beats(path: Path) -> bool:
    """Watch the lease of a process that cannot be seen from here for one beat. Return whether it was touched."""
    holder = _holder(path)
    if holder is None or _is_visible(holder):
        return False
    before = _touched(path)
    time.sleep(BEAT_S * 1.2)
    return _touched(path) != before and not is_free(path)


def _touched(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def _inode(path: Path) -> int:
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return 0


def remove_finished_leases(run_dir: Path) -> None:
    """Remove leases of finished jobs. A process leaves one if it is killed between writing the row and the release."""
    for path in (run_dir / LEASES).glob("*.json"):
        if (run_dir / "points" / path.name).exists() and is_free(path):
            path.unlink(missing_ok=True)


def is_free(path: Path) -> bool:
    """Return whether no live process holds the lease."""
    holder = _holder(path)
    if holder is None:
        return True
    if _is_visible(holder):
        return bool(start_ticks(holder["pid"]) != holder["start_ticks"])
    try:
        return _file_system_now(path.parent) - path.stat().st_mtime > MISSED_BEATS * BEAT_S
    except FileNotFoundError:
        return True


def _holder(path: Path) -> dict[str, Any] | None:
    """Return the content of a lease. ``None`` if there is no file, or if its writer died while writing it.

    Leases are created under a lock, so a partial file has no live writer. The content of a file that is no lease, for
    example one of an older version, is empty.
    """
    try:
        holder: dict[str, Any] = read_json(path, "lease")
    except (FileNotFoundError, ValueError):
        return None
    try:
        check_shape(holder, {"boot": str, "pid_namespace": int, "pid": int, "start_ticks": int}, path)
    except ValueError:
        return {}
    return holder


def _is_visible(holder: Mapping[str, Any]) -> bool:
    """Return whether the process that holds the lease would be visible here if it is alive."""
    return (holder.get("boot"), holder.get("pid_namespace")) == (boot(), pid_namespace())


def _this_process() -> dict[str, object]:
    """Return what identifies this process, with a hash instead of the host's name."""
    return {
        "host": hashlib.sha256(platform.node().encode()).hexdigest()[:12],
        "boot": boot(),
        "pid_namespace": pid_namespace(),
        "pid": os.getpid(),
        "start_ticks": start_ticks(os.getpid()),
        "scheduler_job": next((os.environ[name] for name in SCHEDULER_JOB if name in os.environ), None),
    }


def _file_system_now(folder: Path) -> float:
    """Return the time of the file server's clock, which also sets the times of the lease files."""
    probe = folder / f".clock-{os.getpid()}-{threading.get_ident()}"
    probe.touch()
    try:
        return probe.stat().st_mtime
    finally:
        probe.unlink(missing_ok=True)


def _beat(path: Path, inode: int, stop: threading.Event) -> None:
    while not stop.wait(BEAT_S):
        with contextlib.suppress(OSError):
            if _inode(path) == inode:
                os.utime(path)
