"""Skip points after a real out-of-memory error: those that require at least as much memory in every respect."""

from __future__ import annotations

from bench.plan.points import Point

COMPARED_SIZES = ("storage_bytes", "device_bytes", "live_tokens", "pool_bytes")


class Dominance:
    """Collects the points of a run that ran out of memory."""

    def __init__(self) -> None:
        self._failed: list[Point] = []

    def record(self, point: Point, status: str) -> None:
        """Record the status of a finished point."""
        if status == "oom" and point.predicted:
            self._failed.append(point)

    def reason(self, point: Point) -> str | None:
        """Return why this point is skipped, or ``None`` if it must be tried."""
        for failed in self._failed:
            if _same_kind(point, failed) and _needs_as_much(point, failed):
                return f"requires at least as much memory as {failed.key}, which ran out of memory"
        return None


def _same_kind(point: Point, failed: Point) -> bool:
    """Return whether both have the same implementation and device. Others may require less memory."""
    kinds = ("scenario", "impl", "policy", "device")
    return all(point.question[name] == failed.question[name] for name in kinds)


def _needs_as_much(point: Point, failed: Point) -> bool:
    return bool(point.predicted) and all(
        point.predicted.get(name, 0) >= failed.predicted.get(name, 0) for name in COMPARED_SIZES
    )
