"""``paged_torch`` with more work planted in its decode step, to see whether a comparison finds it."""

from __future__ import annotations

import time
from typing import Any

from impls.caches.paged_torch import PagedTorch


class _Slower(PagedTorch):
    """Keeps the processor busy after each decode step, for a fraction of the time that the step took."""

    extra = 0.0

    def decode(self, *arguments: Any, **options: Any) -> Any:
        begun = time.perf_counter_ns()
        out = super().decode(*arguments, **options)
        now = time.perf_counter_ns()
        until = now + self.extra * (now - begun)
        while time.perf_counter_ns() < until:
            pass
        return out


class FivePercentMore(_Slower):
    """Five percent more."""

    extra = 0.05


class TenPercentMore(_Slower):
    """Ten percent more."""

    extra = 0.10
