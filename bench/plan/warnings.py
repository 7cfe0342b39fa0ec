"""What a sweep should say before it runs: axes that cannot matter, and traces that are not served as they stand."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bench.config.numbers import size_text
from bench.config.serving import ServingScenario
from bench.scenarios.filling import draw
from bench.scenarios.serving.load import make_load

if TYPE_CHECKING:
    from bench.plan.points import Point


def warnings(points: Sequence[Point], cache_bytes: int | None) -> tuple[str, ...]:
    """One sentence per axis of a plan that cannot show what it seems to, and per trace that is put in order.

    Args:
        points: those of the plan.
        cache_bytes: size of the device's last-level cache, if known.
    """
    ran = [point for point in points if point.skip_status is None and point.predicted]
    found = [
        _page_sizes_all_divide(ran),
        _batch_cap_binds(ran),
        _batches_differ_by_page_size(ran),
        _fits_in_cache(ran, cache_bytes),
        _arrivals_are_sorted(points),
    ]
    return tuple(sentence for sentence in found if sentence)


def _page_sizes_all_divide(points: Sequence[Point]) -> str | None:
    paged = [point for point in points if point.question["page_size"] is not None]
    sizes = sorted({point.question["page_size"] for point in paged})
    if len(sizes) < 2 or not all((draw(point.config)[1] % point.question["page_size"] == 0).all() for point in paged):
        return None
    listed = ", ".join(str(size) for size in sizes)
    return f"every length is a multiple of every page_size ({listed}): internal fragmentation cannot differ"


def _batch_cap_binds(points: Sequence[Point]) -> str | None:
    budgets = sorted({point.question["memory_budget_bytes"] for point in points})
    asked = [point for point in points if point.question["num_seqs"] is not None]
    swept = any(len(group) > 1 for group in _groups(asked, "memory_budget_bytes"))
    if not swept or not all(point.predicted["admitted_seqs"] == point.question["num_seqs"] for point in asked):
        return None
    sizes = ", ".join(size_text(budget) for budget in budgets)
    return f"every memory_budget ({sizes}) admits all sequences: num_seqs binds, not the budget"


def _batches_differ_by_page_size(points: Sequence[Point]) -> str | None:
    for group in _groups(points, "page_size"):
        if len({point.predicted["live_tokens"] for point in group}) > 1:
            return "along page_size different sequences are admitted: times there are of different batches"
    return None


def _fits_in_cache(points: Sequence[Point], cache_bytes: int | None) -> str | None:
    if cache_bytes is None:
        return None
    live = [point.predicted["live_tokens"] * point.config.model.token_bytes_per_layer for point in points]
    small = [size for size in live if size <= cache_bytes]
    if not small:
        return None
    return (
        f"{len(small)} of {len(points)} points keep a layer's live K and V ({size_text(max(small))} at most) within "
        f"the last cache ({size_text(cache_bytes)}): warm times there are the cache's, not the memory's"
    )


def _arrivals_are_sorted(points: Iterable[Point]) -> str | None:
    """A trace whose times go back is served in order of time; ``scenario.unordered=refuse`` would have none of it."""
    told: dict[str, int] = {}
    for point in points:
        config = point.config
        timed = isinstance(config.scenario, ServingScenario) and config.scenario.arrivals == "trace"
        if timed and point.skip_status is None and (unordered := make_load(config).unordered):
            told[str(point.question["workload"].get("path"))] = unordered
    if not told:
        return None
    counts = ", ".join(str(count) for count in told.values())
    return f"{counts} requests of the trace stand behind a later one: they are sorted by their time of arrival"


def _groups(points: Iterable[Point], axis: str) -> list[list[Point]]:
    """Points that differ along one axis alone."""
    groups: dict[str, list[Point]] = {}
    for point in points:
        rest = {name: value for name, value in point.question.items() if name != axis}
        groups.setdefault(json.dumps(rest, sort_keys=True), []).append(point)
    return list(groups.values())


def last_cache_bytes(facts: Mapping[str, Any]) -> int | None:
    """L2 of the GPU at hand, or the processor's third level where the system tells."""
    if facts.get("gpu"):
        return int(facts["l2_cache_bytes"])
    try:
        return os.sysconf("SC_LEVEL3_CACHE_SIZE") or None
    except (ValueError, OSError):
        return None
