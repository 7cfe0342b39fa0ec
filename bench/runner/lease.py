"""Who works on which job of a run: an exclusively created file with a heartbeat.

Several processes, on one machine or many, may work on one run folder. A claim is stale when its
process is dead (seen from the same boot of the same host) or when it has missed three beats; a dead
PID means nothing on another host.
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

BEAT_S = 5.0
MISSED_BEATS = 3
POLL_S = 1.0
STALE_S = (MISSED_BEATS + 1) * BEAT_S  # a claim left alone for so long can be taken over

SCHEDULER_JOB = ("SLURM_JOB_ID", "RAY_JOB_ID", "PBS_JOBID")


@contextlib.contextmanager
def claimed(run_dir: Path, name: str, wait_s: float = 0.0) -> Iterator[bool]:
    """Claim one job for the time of the block; yields whether it is ours.

    Args:
        run_dir: the run folder, on a file system that all workers share.
        name: ``<key>-<replicate>``.
        wait_s: how long to wait for another's claim to end or to become stale.
    """
    path = run_dir / "claims" / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    deadline = time.monotonic() + wait_s
    while not (ours := _take(path)) and time.monotonic() < deadline:
        time.sleep(POLL_S)
    if not ours:
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


def _take(path: Path) -> bool:
    """Create the claim if nobody alive holds it; exclusively, as a lock need not reach other nodes everywhere."""
    with filelock.FileLock(path.parent / ".lock"):  # two must not take over the same stale claim
        if not is_free(path):
            return False
        path.unlink(missing_ok=True)
        try:
            with path.open("x", encoding="utf-8") as file:
                file.write(json.dumps(_who()))
        except FileExistsError:
            return False
    return True


def drop_leftovers(run_dir: Path) -> None:
    """Remove claims of finished jobs, left by a process that was killed between row and release."""
    for path in (run_dir / "claims").glob("*.json"):
        if (run_dir / "points" / path.name).exists() and is_free(path):
            path.unlink(missing_ok=True)


def is_free(path: Path) -> bool:
    """Whether nobody alive holds this claim."""
    try:
        holder = json.loads(path.read_text(encoding="utf-8"))
        age_s = _file_system_now(path.parent) - path.stat().st_mtime
    except FileNotFoundError:
        return True
    except json.JSONDecodeError:
        return True  # its writer died while writing: claims are made under a lock
    me = _who()
    if (holder["host"], holder["boot"]) == (me["host"], me["boot"]):
        return not _is_alive(holder["pid"], holder["started"])
    return age_s > MISSED_BEATS * BEAT_S


def _is_alive(pid: int, started: float) -> bool:
    try:
        return abs(psutil.Process(pid).create_time() - started) < 1
    except psutil.NoSuchProcess:
        return False


def _who() -> dict[str, object]:
    """This process: no names, hashes only."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    return {
        "host": hashlib.sha256(platform.node().encode()).hexdigest()[:12],
        "boot": boot.read_text().strip() if boot.exists() else str(psutil.boot_time()),
        "pid": os.getpid(),
        "started": psutil.Process().create_time(),
        "scheduler_job": next((os.environ[name] for name in SCHEDULER_JOB if name in os.environ), None),
    }


def _file_system_now(folder: Path) -> float:
    """The file server's clock, which alone made the other times."""
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
