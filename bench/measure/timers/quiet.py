"""No garbage collection while something is timed. Apart from the timers, which import scipy: replays need none."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No garbage collection inside; may be nested.

    What lives when it begins is never looked at again: a point's process is short, and has a handful of such blocks.
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
