"""Read the state of the host: load, governor, frequency, other computing processes."""

from __future__ import annotations

import contextlib
import os
import time
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import psutil

HEAVY_CORES = 0.25
"""A process that uses more than this share of a processor is heavy."""


def host_state() -> dict[str, Any]:
    """Return processor seconds so far (all processes and ours, without ``elsewhere``), load, frequency, governor."""
    frequency = _frequency()
    return {
        **{name: seconds - _elsewhere[name] for name, seconds in _clocks().items()},
        "load_average": os.getloadavg()[0],
        "frequency_mhz": None if frequency is None else frequency.current,
        "governor": governor(),
    }


_elsewhere: Counter[str] = Counter()


@contextlib.contextmanager
def elsewhere() -> Iterator[None]:
    """Exclude the time inside from ``host_state``, because this process waits for others that should compute."""
    before = _clocks()
    try:
        yield
    finally:
        _elsewhere.update({name: seconds - before[name] for name, seconds in _clocks().items()})


def _clocks() -> dict[str, float]:
    times, own = psutil.cpu_times(), os.times()
    return {
        "time_s": time.monotonic(),
        "busy_s": sum(times) - times.idle - getattr(times, "iowait", 0.0) - _counted_twice(times),
        "own_s": own.user + own.system + own.children_user + own.children_system,
    }


def usable_cores() -> int:
    """Return the number of processors that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cores_of_others(before: dict[str, Any], after: dict[str, Any]) -> float:
    """Return the processors that other processes kept busy between two states, stolen time included."""
    elapsed_s = after["time_s"] - before["time_s"]
    others_s = (after["busy_s"] - before["busy_s"]) - (after["own_s"] - before["own_s"])
    return max(0.0, others_s / elapsed_s) if elapsed_s > 0 else 0.0


def governor() -> str | None:
    """Return the frequency governor of the first processor, or ``None`` if the system has no such file."""
    try:
        return Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor").read_text().strip()
    except OSError:
        return None


class HeavyProcesses:
    """Counts processes, other than this one, that computed since construction."""

    def __init__(self) -> None:
        self._began_s = time.monotonic()
        self._before = _processor_seconds()

    def count(self, expected: Collection[int] = ()) -> int:
        """Return the number of processes that used more than ``HEAVY_CORES``.

        Args:
            expected: ids of processes that should compute, which are not counted.
        """
        elapsed_s = time.monotonic() - self._began_s
        after = _processor_seconds()
        took = (seconds - self._before.get(pid, 0.0) for pid, seconds in after.items() if pid not in expected)
        return sum(seconds > HEAVY_CORES * elapsed_s for seconds in took)


def _processor_seconds() -> dict[int, float]:
    """Return processor seconds by PID, without our own process and those that may not be read."""
    seconds = {}
    for process in psutil.process_iter(["cpu_times"]):
        times = process.info["cpu_times"]
        if times is not None and process.pid != os.getpid():
            seconds[process.pid] = times.user + times.system
    return seconds


def _counted_twice(times: Any) -> float:
    """Return the time of virtual machines, which Linux also counts as user time."""
    return float(getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0))


def _frequency() -> Any:
    try:
        return psutil.cpu_freq()
    except (OSError, NotImplementedError, AttributeError):
        return None
