"""A thread that reads a quantity at an interval, for the memory process only: it would disturb a timing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class Poller:
    """Reads until stopped; a peak between two readings is missed.

    Args:
        read: gives bytes, or ``None``.
        interval_ms: between two readings.

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
        """End the thread after one last reading; returns all readings."""
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
