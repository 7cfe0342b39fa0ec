"""After a real out-of-memory: what needs at least as much in every respect is not tried."""

from __future__ import annotations

from bench.plan.points import Point

COUNTED = ("storage_bytes", "device_bytes", "live_tokens", "pool_bytes")


class Dominance:
    """Remembers the points of a run that ran out of memory."""

    def __init__(self) -> None:
        self._failed: list[Point] = []

    def note(self, point: Point, status: str) -> None:
        """A point has ended."""
        if status == "oom" and point.predicted:
            self._failed.append(point)

    def reason(self, point: Point) -> str | None:
        """Why this point need not be tried, or ``None``."""
        for failed in self._failed:
            if _same_kind(point, failed) and _at_least(point, failed):
                return f"needs at least as much memory as {failed.key}, which ran out of it"
        return None


def _same_kind(point: Point, failed: Point) -> bool:
    """Other implementations and other machines' devices may need less."""
    kinds = ("scenario", "impl", "policy", "device")
    return all(point.question[name] == failed.question[name] for name in kinds)


def _at_least(point: Point, failed: Point) -> bool:
    return bool(point.predicted) and all(
        point.predicted.get(name, 0) >= failed.predicted.get(name, 0) for name in COUNTED
    )
