"""Warnings before a sweep runs: axes without effect, misleading comparisons, and traces out of order."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bench.config.numbers import size_text
from bench.measure.machine.caches import last_level_cache_bytes as host_cache_bytes
from bench.scenarios.filling import draw
from bench.scenarios.serving.replay_notes import replay_notes

OPTIONS = ("kv_dtype", "sliding_window", "soft_cap")
"""Fields of a model that are null unless it has the option."""

if TYPE_CHECKING:
    from bench.config import Config
    from bench.plan.points import Point


def warnings(points: Sequence[Point], cache_bytes: int | None) -> tuple[str, ...]:
    """Return one sentence for each problem found.

    Args:
        points: the points of the plan.
        cache_bytes: size of the last-level cache of the device, if known.
    """
    sized = [point for point in points if point.skip_status is None and point.predicted]
    found = [
        _page_sizes_all_divide(sized),
        _num_seqs_binds(sized),
        _batches_differ_by_page_size(sized),
        _fits_in_cache(sized, cache_bytes),
        *_replayed_traces(points),
        *_axes_without_effect(points),
    ]
    return tuple(sentence for sentence in found if sentence)


def _page_sizes_all_divide(points: Sequence[Point]) -> str | None:
    paged = [point for point in points if point.question["page_size"] is not None]
    sizes = sorted({point.question["page_size"] for point in paged})
    if len(sizes) < 2 or not all((draw(point.config)[1] % point.question["page_size"] == 0).all() for point in paged):
        return None
    listed = ", ".join(str(size) for size in sizes)
    return f"every length is a multiple of every page_size ({listed}), so internal fragmentation cannot differ"


def _num_seqs_binds(points: Sequence[Point]) -> str | None:
    budgets = sorted({point.question["memory_budget_bytes"] for point in points})
    limited = [point for point in points if point.question["num_seqs"] is not None]
    swept = any(len(group) > 1 for group in _groups(limited, "memory_budget_bytes"))
    if not swept or not all(point.predicted["admitted_seqs"] == point.question["num_seqs"] for point in limited):
        return None
    sizes = ", ".join(size_text(budget) for budget in budgets)
    return f"every memory_budget ({sizes}) admits all sequences: num_seqs limits the batch, not the budget"


def _batches_differ_by_page_size(points: Sequence[Point]) -> str | None:
    for group in _groups(points, "page_size"):
        if len({point.predicted["live_tokens"] for point in group}) > 1:
            return "different sequences are admitted at different page_size, so their times are of different batches"
    return None


def _fits_in_cache(points: Sequence[Point], cache_bytes: int | None) -> str | None:
    if cache_bytes is None:
        return None
    live = [point.predicted["live_tokens"] * point.config.model.token_bytes_per_layer for point in points]
    small = [size for size in live if size <= cache_bytes]
    if not small:
        return None
    return (
        f"in {len(small)} of {len(points)} points the live K and V of a layer (at most {size_text(max(small))}) fit "
        f"into the last-level cache ({size_text(cache_bytes)}): their warm times measure the cache, not the memory"
    )


def _replayed_traces(points: Iterable[Point]) -> list[str]:
    """Return the notes of all replayed traces, each once."""
    served = [point for point in points if point.skip_status is None]
    return list(dict.fromkeys(note for point in served for note in replay_notes(point.config)))


def _axes_without_effect(points: Sequence[Point]) -> Iterable[str]:
    """Warn of axes that make several keys and equal rows."""
    for name in sorted({name for point in points for name in point.config.scenario.idle_model_fields}):
        idle = [point for point in points if name in point.config.scenario.idle_model_fields]
        if any(len(group) > 1 for group in _groups(idle, name, within="model")):
            scenarios = " and ".join(sorted({point.config.scenario.name for point in idle}))
            yield f"model.{name} has no effect on scenario={scenarios}, so these points have equal rows"
    drawn_once = [point for point in points if not point.config.scenario.draws(point.config)]
    if any(len(group) > 1 for group in _groups(drawn_once, "seed")):
        yield "seed has no effect on a trace that is replayed at its own times, so these points have equal rows"


def idle_options(configs: Iterable[Config]) -> tuple[str, ...]:
    """Return a sentence for each option of a model that a scenario ignores. The plan has no trace of them.

    Args:
        configs: configurations as composed, not resolved.
    """
    found = {
        f"model.{name} has no effect on scenario={config.scenario.name}: it is null in the key and in the row"
        for config in configs
        for name in config.scenario.idle_model_fields
        if name in OPTIONS and getattr(config.model, name) is not None
    }
    return tuple(sorted(found))


def _groups(points: Iterable[Point], axis: str, within: str | None = None) -> list[list[Point]]:
    """Return groups of points that differ only along one axis, a root name or a field of the group ``within``."""
    groups: dict[str, list[Point]] = {}
    for point in points:
        question = point.question
        if within is not None:
            question = {**question, within: {k: v for k, v in (question[within] or {}).items() if k != axis}}
        rest = {name: value for name, value in question.items() if name != axis}
        groups.setdefault(json.dumps(rest, sort_keys=True), []).append(point)
    return list(groups.values())


def last_level_cache_bytes(facts: Mapping[str, Any]) -> int | None:
    """Return the size of the GPU's L2 cache, or of the processor's largest cache if the system reports one."""
    return int(facts["l2_cache_bytes"]) if facts.get("gpu") else host_cache_bytes()
