"""Switch garbage collection off while something is timed.

This file is apart from the timers, which import scipy, because replays do not need scipy.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Switch garbage collection off inside the block. Blocks may be nested.

    Objects that exist when a block begins are never collected later. A point's process is short and has few blocks.
    """
    was_enabled = gc.isenabled()
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
