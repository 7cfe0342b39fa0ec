"""What paging costs on a CPU in plain torch: one decode step of both caches, in turn, in one run.

python -m pytest tests/perf/test_attention.py -m perf -s -p no:xdist

`compiled` is what `paged_torch` chooses if a compiler exists. `gathered` is what it did before, and does
without one. A single loop over whole sequences instead of chunks was compiled, too, and was no faster than gathering.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch

from tests.support.cache_case import DEVICE, Setup, make_cache

pytestmark = pytest.mark.perf

PAGED = "impls.caches.paged_torch.PagedTorch"
NUM_SEQS = 16
CONTEXT = 2048
PAGE_SIZES = (1, 4, 16, 64)
TARGET_RATIO = 2.0
"""What paging may cost at any page size."""
WAYS: Mapping[str, Mapping[str, bool]] = {"chosen": {}, "gathered": {"compile": False}, "compiled": {"compile": True}}
ROUNDS = 15
LENGTHS: Mapping[str, Sequence[int]] = {
    "fixed": [CONTEXT] * NUM_SEQS,
    "uniform": np.random.default_rng(0).integers(1, 2 * CONTEXT, NUM_SEQS, endpoint=True).tolist(),
}


def decode_step(lens: Sequence[int], setup: Setup) -> Callable[[], object]:
    """One tuned decode step over random K and V."""
    cache = make_cache(setup)
    for tensor in cache.tensors:
        tensor.normal_()
    for seq_id, num_tokens in enumerate(lens):
        cache.policy.admit(seq_id, num_tokens)
    batch = cache.prepare(range(len(lens)))
    shape = (len(lens), setup.heads[0], setup.head_dim)
    query = torch.randn(shape, device=DEVICE).to(getattr(torch, setup.dtype))
    cache.tune(query, batch)
    batch = cache.prepare(range(len(lens)))
    return lambda: cache.decode(0, query, batch)


def in_turn(calls: Mapping[str, Callable[[], object]], times_s: Mapping[str, list[float]]) -> None:
    """Run each call once and keep how long it took."""
    for name, call in calls.items():
        times_s[name].append(seconds(call))


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


@dataclass
class Beside:
    """One cache's decode step beside another's, A B B A: their ratios by round, and the least time of each."""

    ratios: list[float] = field(default_factory=list)
    least_s: float = math.inf
    base_least_s: float = math.inf

    def round(self, call: Callable[[], object], base: Callable[[], object]) -> None:
        first, *times_s, last = (seconds(one) for one in (base, call, call, base))
        self.ratios.append(sum(times_s) / (first + last))
        self.least_s = min(self.least_s, *times_s)
        self.base_least_s = min(self.base_least_s, first, last)

    @property
    def median(self) -> float:
        return statistics.median(self.ratios)

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.least_s / self.base_least_s:.2f})"


@pytest.mark.skipif(DEVICE != "cpu", reason="the ratio is a CPU's; this machine has a GPU")
@pytest.mark.timeout(1800)
@pytest.mark.filterwarnings("ignore")  # torch's compiler warns of itself
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("heads", [(8, 8), (32, 8)], ids=["8on8", "32on8"])
@pytest.mark.parametrize("lengths", LENGTHS)
def test_paged_beside_contiguous(benchmark: Any, lengths: str, heads: tuple[int, int], dtype: str) -> None:
    """Prints the median of the rounds' ratios to contiguous and, in brackets, least time by least time."""
    lens = LENGTHS[lengths]
    shape = {"heads": heads, "head_dim": 128, "dtype": dtype, "max_seq_len": max(lens), "max_seqs": NUM_SEQS}
    base = decode_step(lens, Setup(target="impls.caches.contiguous.Contiguous", policy="reserved_max", **shape))
    chosen = {}
    print(f"\n{lengths} {heads[0]}/{heads[1]} {dtype}; times contiguous, median (least by least):")
    for page_size, (way, options) in product(PAGE_SIZES, WAYS.items()):
        setup = Setup(target=PAGED, policy="paged", page_size=page_size, options=options, **shape)
        call, beside = decode_step(lens, setup), Beside()
        for _ in range(ROUNDS):
            beside.round(call, base)
        print(f"page {page_size} {way}: {beside}; contiguous {1000 * beside.base_least_s:.1f} ms", flush=True)
        if way == "chosen":
            chosen[page_size] = beside.median
    benchmark.extra_info.update({f"page {page_size}": median for page_size, median in chosen.items()})
    benchmark.pedantic(base, rounds=3)
    assert all(median <= TARGET_RATIO for median in chosen.values()), chosen


LENGTHS_OF_64 = (1024, 2048, 4096, 8192)


@pytest.mark.skipif(DEVICE != "cpu", reason="the growth is a CPU's; this machine has a GPU")
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def benchmark_growth_with_tokens(benchmark: Any, dtype: str) -> None:
    """64 sequences of up to 8,192 tokens: prints least times per token, and asserts none of them."""
    calls = {}
    for length in LENGTHS_OF_64:
        setup = Setup(target=PAGED, policy="paged", heads=(8, 8), head_dim=128,
                      dtype=dtype, max_seq_len=length, max_seqs=64)  # fmt: skip
        calls[str(length)] = decode_step([length] * 64, setup)
    times_s: dict[str, list[float]] = {name: [] for name in calls}
    benchmark.pedantic(in_turn, args=(calls, times_s), rounds=7, warmup_rounds=1)
    per_ktoken = {name: 1e6 * min(times) / (64 * int(name) / 1000) for name, times in times_s.items()}
    benchmark.extra_info.update(per_ktoken)
    print(
        f"\n64 x length, 8/8, {dtype}: " + ", ".join(f"{name}: {us:.1f} us/ktoken" for name, us in per_ktoken.items())
    )
