"""Identify a process, so that files that a dead process left behind can be recognised.

Two containers can share a host name and a run folder, and both can have a process with the same number. A process is
therefore identified by the boot, the PID namespace, its number, and its start in clock ticks since the boot. A change
of the clock has no effect on any of them. Every process of a point imports this module, so it imports none of ours.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
from functools import lru_cache
from pathlib import Path

_BOOT = Path("/proc/sys/kernel/random/boot_id")
_TOKEN = re.compile(r"([0-9a-f]{8})-(\d{1,10})-(\d{1,20})")


@lru_cache
def boot() -> str:
    """Return what identifies the boot of this machine. Without ``/proc``, it is the name of the machine."""
    return _BOOT.read_text(encoding="ascii").strip() if _BOOT.exists() else platform.node()


def pid_namespace() -> int:
    """Return the inode of the namespace of this process's number, or 0 on a system without namespaces."""
    try:
        return Path("/proc/self/ns/pid").stat().st_ino
    except OSError:
        return 0


def start_ticks(pid: int) -> int | None:
    """Return when a process started, in clock ticks since the boot. ``None`` if there is no such process."""
    if not Path("/proc/self/stat").exists():
        return _start_without_proc(pid)
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def _start_without_proc(pid: int) -> int | None:
    import psutil

    try:
        return int(psutil.Process(pid).create_time())
    except psutil.Error:
        return None


def owner_token() -> str:
    """Return a short text for file names that identifies this process."""
    return f"{_scope()}-{os.getpid()}-{start_ticks(os.getpid())}"


def is_dead(token: str) -> bool:
    """Return whether the process of a token has certainly ended. Only its own machine and namespace can see that."""
    match = _TOKEN.fullmatch(token)
    return match is not None and match[1] == _scope() and start_ticks(int(match[2])) != int(match[3])


def _scope() -> str:
    return hashlib.sha256(f"{boot()} {pid_namespace()}".encode()).hexdigest()[:8]
