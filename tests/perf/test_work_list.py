"""Host time of planning a decode step: the choice of splits, and the work list.

python -m pytest tests/perf/test_work_list.py -m perf -s -p no:xdist
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from impls.launch.work_list import Tokens, WorkList, build_work_list
from tests.kernels.work_case import BLOCK_TOKENS, NUM_KV_HEADS, cost_model

pytestmark = pytest.mark.perf

BATCHES = {
    "32 x 8,192": np.full(32, 8192),
    "1 x 131,072": np.full(1, 131_072),
    "1 x 131,072 + 255 x 512": np.concatenate(([131_072], np.full(255, 512))),
    "256 of 1 to 4,096": np.random.default_rng(0).integers(1, 4096, 256),
    "4,096 of 1 to 4,096": np.random.default_rng(0).integers(1, 4096, 4096),
}


@pytest.mark.parametrize("name", BATCHES)
def test_planning_on_the_host(benchmark: Any, name: str) -> None:
    """Print the least time. Assert only that there is a list for each batch."""
    lens, cost = BATCHES[name].astype(np.int32), cost_model()

    def plan() -> WorkList:
        tokens = Tokens.of(lens, None, BLOCK_TOKENS)
        return build_work_list(tokens, cost.choose_part_tiles(tokens.tiles))

    work = benchmark.pedantic(plan, rounds=30, iterations=5, warmup_rounds=2)
    least_us = 1e6 * benchmark.stats.stats.min
    programs = len(work.items) * NUM_KV_HEADS
    print(f"\n{name}: {least_us:.0f} us, {programs:,} programs, {work.num_parts:,} parts to merge")
    assert len(work.items) >= len(lens)
