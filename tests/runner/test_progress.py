"""Labels of points in the plan and in the progress."""

from __future__ import annotations

from bench.runner.progress import labels
from tests.support.points import Composed, plan_of


def labels_of(*points: Composed) -> list[str]:
    return list(labels(plan_of(*points).points).values())


def test_equal_labels_are_followed_by_what_varies() -> None:
    first, second, third = labels_of(
        Composed("impl=paged_torch", "page_size=16", "memory_budget=64MiB"),
        Composed("impl=paged_torch", "page_size=16", "memory_budget=256MiB"),
        Composed("impl=paged_torch", "page_size=4", "memory_budget=256MiB"),
    )
    assert first.endswith(" memory_budget=64MiB")
    assert second.endswith(" memory_budget=256MiB")
    assert "memory_budget" not in third
    assert "seed" not in first + second + third


def test_models_of_equal_labels_are_named() -> None:
    points = [Composed("scenario=capacity", f"model={name}", "memory_budget=64GiB") for name in ("tiny", "opt-13b")]
    assert [text.rpartition(" ")[2] for text in labels_of(*points)] == ["model=tiny", "model=opt-13b"]
