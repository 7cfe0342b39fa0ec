"""A thread that reads a quantity at an interval. Only the memory process uses it, because it would disturb timing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class Poller:
    """Reads until stopped. It misses peaks between two readings.

    Args:
        read: returns bytes, or ``None``.
        interval_ms: time between two readings.

    Attributes:
        readings: milliseconds since the start, and bytes.
    """

    def __init__(self, read: Callable[[], int | None], interval_ms: float) -> None:
        self.readings: list[tuple[float, int]] = []
        self._read = read
        self._interval_s = interval_ms / 1000
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> list[tuple[float, int]]:
        """End the thread after one last reading, and return all readings."""
        self._end.set()
        self._thread.join()
        return self.readings

    def _run(self) -> None:
        began = time.perf_counter()
        ended = False
        while not ended:
            ended = self._end.is_set()
            value = self._read()
            if value is not None:
                self.readings.append(((time.perf_counter() - began) * 1000, value))
            self._end.wait(self._interval_s)
