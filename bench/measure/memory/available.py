"""Memory that can still be taken on the host."""

from __future__ import annotations

from pathlib import Path

import psutil


def available_host_bytes() -> int:
    """What the system has available, or less where a control group allows less."""
    available: int = psutil.virtual_memory().available
    limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    try:
        allowed = int(limit.read_text()) - int(used.read_text())
    except (OSError, ValueError):  # no control groups, or no limit ("max")
        return available
    return min(available, allowed)
