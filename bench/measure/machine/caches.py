"""Read the size of the processor's caches."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def last_level_cache_bytes() -> int | None:
    """Return the size of the processor's largest cache, or ``None`` if the system does not report it."""
    sizes = []
    for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        with contextlib.suppress(OSError, ValueError):
            sizes.append(int(path.read_text(encoding="ascii").strip().removesuffix("K")) * 1024)
    if sizes:
        return max(sizes)
    with contextlib.suppress(ValueError, OSError):  # another system than Linux
        return os.sysconf("SC_LEVEL3_CACHE_SIZE") or None
    return None
