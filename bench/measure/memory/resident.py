"""Memory of processes on the host."""

from __future__ import annotations

import contextlib
import ctypes
import sys
from pathlib import Path

import psutil


def resident_bytes() -> int:
    """Return the resident set of this process, now."""
    return int(psutil.Process().memory_info().rss)


def reset_peak_resident() -> None:
    """Reset the peak of the resident set. Only Linux can. Elsewhere the peak since process start remains."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_resident_bytes() -> int:
    """Return the peak resident set of this process."""
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def give_back_freed() -> None:
    """Return freed memory to the system, if the C library can (glibc), so that the next allocation shows as a rise."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)
