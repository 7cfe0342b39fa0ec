"""No garbage collection while something is timed. Apart from the timers, which import scipy: replays need none."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No garbage collection inside; may be nested."""
    was_enabled = gc.isenabled()
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.unfreeze()
        if was_enabled:
            gc.enable()
