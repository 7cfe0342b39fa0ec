"""Memory of the host, or of the container (control group) in which this process runs."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import psutil

CGROUP = Path("/sys/fs/cgroup")


class Cgroup(NamedTuple):
    """Files of one version of control groups, and the entry of its statistics that can be reclaimed."""

    limit: str
    used: str
    statistics: str
    reclaimable: str


CGROUPS = (
    Cgroup("memory.max", "memory.current", "memory.stat", "inactive_file"),
    Cgroup("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat", "total_inactive_file"),
)
"""Version 2, then version 1. A system has one of them."""


def available_host_bytes(root: Path = CGROUP) -> int:
    """Return the bytes that can still be allocated: those of the system, or the smaller rest of the container.

    The kernel frees the container's inactive file cache when memory runs short, so it counts as available.
    """
    available: int = psutil.virtual_memory().available
    rests = [limit - used for limit, used in _groups(root)]
    return max(min([available, *rests]), 0)


def host_memory_bytes(root: Path = CGROUP) -> int:
    """Return the memory of the system, or the smaller limit of the container."""
    total: int = psutil.virtual_memory().total
    return min([total, *(limit for limit, _ in _groups(root))])


def _groups(root: Path) -> list[tuple[int, int]]:
    """Return limit and used bytes of each control group that has a limit, without reclaimable file cache."""
    found = []
    for group in CGROUPS:
        try:
            limit, used = (int((root / name).read_text(encoding="ascii")) for name in (group.limit, group.used))
        except (OSError, ValueError):  # there is no such group, or no limit ("max")
            continue
        found.append((limit, used - _statistic(root / group.statistics, group.reclaimable)))
    return found


def _statistic(path: Path, name: str) -> int:
    try:
        entries = dict(line.split() for line in path.read_text(encoding="ascii").splitlines())
        return int(entries.get(name, 0))
    except (OSError, ValueError):
        return 0
