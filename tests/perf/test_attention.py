"""What paging costs on a CPU in plain torch: one decode step of both caches, in turn, in one run.

python -m pytest tests/perf/test_attention.py -m perf -s -p no:xdist
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch

from tests.impls.cache_case import DEVICE, Setup, make_cache

pytestmark = pytest.mark.perf

NUM_SEQS = 16
CONTEXT = 2048
PAGE_SIZES = (1, 4, 16, 64)
TARGET_RATIO = 2.0
"""What paging may cost at page sizes of 4 and more."""
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
        start = time.perf_counter()
        call()
        times_s[name].append(time.perf_counter() - start)


@pytest.mark.skipif(DEVICE != "cpu", reason="the ratio is a CPU's; this machine has a GPU")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("heads", [(8, 8), (32, 8)], ids=["8on8", "32on8"])
@pytest.mark.parametrize("lengths", LENGTHS)
def test_paged_beside_contiguous(benchmark: Any, lengths: str, heads: tuple[int, int], dtype: str) -> None:
    """Prints least time by least time of contiguous and, in brackets, the median of the rounds' ratios."""
    lens = LENGTHS[lengths]
    setups = {
        "contiguous": Setup(target="impls.contiguous.Contiguous", policy="reserved_max"),
        **{f"page {n}": Setup(target="impls.paged_torch.PagedTorch", policy="paged", page_size=n) for n in PAGE_SIZES},
    }
    shape = {"heads": heads, "head_dim": 128, "dtype": dtype, "max_seq_len": max(lens), "max_seqs": NUM_SEQS}
    calls = {name: decode_step(lens, Setup(**{**vars(setup), **shape})) for name, setup in setups.items()}
    times_s: dict[str, list[float]] = {name: [] for name in calls}
    benchmark.pedantic(in_turn, args=(calls, times_s), rounds=15, warmup_rounds=1)

    base = times_s.pop("contiguous")
    ratios = {name: min(times) / min(base) for name, times in times_s.items()}  # others' load only ever adds
    medians = {
        name: statistics.median(mine / other for mine, other in zip(times, base, strict=True))
        for name, times in times_s.items()
    }
    benchmark.extra_info.update(ratios)
    cells = ", ".join(f"{name}: {ratios[name]:.2f} ({medians[name]:.2f})" for name in ratios)
    print(f"\n{lengths} {heads[0]}/{heads[1]} {dtype}, contiguous {1000 * min(base):.1f} ms; times it {cells}")
    assert all(ratios[f"page {page_size}"] <= TARGET_RATIO for page_size in PAGE_SIZES if page_size >= 4)


LENGTHS_OF_64 = (1024, 2048, 4096, 8192)


@pytest.mark.skipif(DEVICE != "cpu", reason="the growth is a CPU's; this machine has a GPU")
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_cost_grows_as_the_tokens(benchmark: Any, dtype: str) -> None:
    """64 sequences of up to 8,192 tokens: prints least times per token, and asserts none of them."""
    calls = {}
    for length in LENGTHS_OF_64:
        setup = Setup(target="impls.paged_torch.PagedTorch", policy="paged", heads=(8, 8), head_dim=128,
                      dtype=dtype, max_seq_len=length, max_seqs=64)  # fmt: skip
        calls[str(length)] = decode_step([length] * 64, setup)
    times_s: dict[str, list[float]] = {name: [] for name in calls}
    benchmark.pedantic(in_turn, args=(calls, times_s), rounds=7, warmup_rounds=1)
    per_ktoken = {name: 1e6 * min(times) / (64 * int(name) / 1000) for name, times in times_s.items()}
    benchmark.extra_info.update(per_ktoken)
    print(
        f"\n64 x length, 8/8, {dtype}: " + ", ".join(f"{name}: {us:.1f} us/ktoken" for name, us in per_ktoken.items())
    )
