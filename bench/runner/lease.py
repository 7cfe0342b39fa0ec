"""Leases: each running job has a file that its process creates exclusively and touches regularly.

Several processes may work on one run folder, on one machine or on many. A lease is free if its process is dead. Only
a process on the same host since the same boot can see that. For others, a lease is free after three missed beats.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import filelock
import psutil

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
    while not (acquired := _acquire(path)) and time.monotonic() < deadline:
        time.sleep(POLL_S)
    if not acquired:
        yield False
        return
    stop = threading.Event()
    beating = threading.Thread(target=_beat, args=(path, stop), daemon=True)
    beating.start()
    try:
        yield True
    finally:
        stop.set()
        beating.join()
        path.unlink(missing_ok=True)


def _acquire(path: Path) -> bool:
    """Create the lease file if the lease is free, and return whether this process holds the lease now.

    The file is created exclusively, because on some file systems a lock has no effect on other nodes.
    """
    with filelock.FileLock(path.parent / ".lock"):  # two processes must not take over the same lease
        if not is_free(path):
            return False
        path.unlink(missing_ok=True)
        try:
            with path.open("x", encoding="utf-8") as file:
                file.write(json.dumps(_this_process()))
        except FileExistsError:
            return False
    return True


def remove_finished_leases(run_dir: Path) -> None:
    """Remove leases of finished jobs. A process leaves one if it is killed between writing the row and the release."""
    for path in (run_dir / LEASES).glob("*.json"):
        if (run_dir / "points" / path.name).exists() and is_free(path):
            path.unlink(missing_ok=True)


def is_free(path: Path) -> bool:
    """Return whether no live process holds the lease."""
    try:
        holder = json.loads(path.read_text(encoding="utf-8"))
        age_s = _file_system_now(path.parent) - path.stat().st_mtime
    except FileNotFoundError:
        return True
    except json.JSONDecodeError:
        return True  # its writer died while writing: leases are created under a lock
    me = _this_process()
    if (holder["host"], holder["boot"]) == (me["host"], me["boot"]):
        return not _is_alive(holder["pid"], holder["started"])
    return age_s > MISSED_BEATS * BEAT_S


def _is_alive(pid: int, started: float) -> bool:
    try:
        return abs(psutil.Process(pid).create_time() - started) < 1
    except psutil.NoSuchProcess:
        return False


def _this_process() -> dict[str, object]:
    """Return what identifies this process, with a hash instead of the host's name."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    return {
        "host": hashlib.sha256(platform.node().encode()).hexdigest()[:12],
        "boot": boot.read_text().strip() if boot.exists() else str(psutil.boot_time()),
        "pid": os.getpid(),
        "started": psutil.Process().create_time(),
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


def _beat(path: Path, stop: threading.Event) -> None:
    while not stop.wait(BEAT_S):
        with contextlib.suppress(FileNotFoundError):
            os.utime(path)
