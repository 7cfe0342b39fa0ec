"""Memory that can still be allocated on the host."""

from __future__ import annotations

from pathlib import Path

import psutil


def available_host_bytes() -> int:
    """Return the bytes that the system has available, or the smaller rest of a control group."""
    available: int = psutil.virtual_memory().available
    limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    try:
        allowed = int(limit.read_text()) - int(used.read_text())
    except (OSError, ValueError):  # no control groups, or no limit ("max")
        return available
    return min(available, allowed)
