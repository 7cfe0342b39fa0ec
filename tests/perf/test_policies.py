"""Speed of the policies, as ratios to simple code that runs beside them. No absolute time is asserted.

python -m pytest tests/perf/test_policies.py -m perf -s -p no:xdist
"""

from __future__ import annotations

import csv
import gzip
import json
import random
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import pytest

from impls.policies import PagePool, PrefixPool
from impls.policies.lockstep import Request
from impls.policies.prefix_keys import keys_of_hash_ids
from impls.policies.saturated import SaturatedQueue
from tests.support.policy_models import trace_file

pytestmark = pytest.mark.perf

NUM_PAGES = 100_000
PAGE_SIZE = 16


class NotebookPool:
    """Allocation as in the notebook's ``PagedAttentionSimulator``: every call looks at every page."""

    def __init__(self, page_size: int, num_pages: int) -> None:
        self.page_size = page_size
        self.pages: list[int | None] = [None] * num_pages
        self.block_tables: dict[int, list[int]] = {}

    def allocate_sequence(self, seq_id: int, seq_length: int) -> bool:
        num_pages_needed = (seq_length + self.page_size - 1) // self.page_size
        free_pages = [i for i, page in enumerate(self.pages) if page is None]
        if len(free_pages) < num_pages_needed:
            return False
        allocated_pages = free_pages[:num_pages_needed]
        for page_idx in allocated_pages:
            self.pages[page_idx] = seq_id
        self.block_tables[seq_id] = allocated_pages
        return True

    def free_sequence(self, seq_id: int) -> bool:
        if seq_id not in self.block_tables:
            return False
        for page_idx in self.block_tables[seq_id]:
            self.pages[page_idx] = None
        del self.block_tables[seq_id]
        return True


def operations(count: int) -> list[tuple[int, int]]:
    """Sequences of 1 to 1,024 tokens that come, and (0 tokens) go in another order."""
    rng = random.Random(0)
    steps, live = list[tuple[int, int]](), list[int]()
    for seq_id in range(count):
        steps.append((seq_id, rng.randint(1, 1024)))
        live.append(seq_id)
        if rng.random() < 0.5:
            steps.append((live.pop(rng.randrange(len(live))), 0))
    return steps + [(seq_id, 0) for seq_id in live]


def perform(steps: list[tuple[int, int]], enter: Callable[[int, int], object], leave: Callable[[int], object]) -> float:
    """Seconds that the operations take."""
    start = time.perf_counter()
    for seq_id, num_tokens in steps:
        if num_tokens:
            enter(seq_id, num_tokens)
        else:
            leave(seq_id)
    return time.perf_counter() - start


def test_no_page_is_scanned(benchmark: Any) -> None:
    steps = operations(100)
    theirs = NotebookPool(PAGE_SIZE, NUM_PAGES)
    theirs_s = min(perform(steps, theirs.allocate_sequence, theirs.free_sequence) for _ in range(2))
    pool = PagePool(NUM_PAGES, PAGE_SIZE, 1)
    ours_s = benchmark.pedantic(perform, args=(steps, pool.admit, pool.free), rounds=20)
    ours_s = min(ours_s, *benchmark.stats.stats.data)
    print(f"\nadmit and free at {NUM_PAGES:,} pages: {theirs_s / ours_s:,.0f} x the notebook's simulator")
    assert theirs_s / ours_s >= 100


@pytest.mark.parametrize("verb", ["admit", "free"])
def benchmark_one_admit_and_one_free(benchmark: Any, verb: str) -> None:
    lengths = [random.Random(0).randint(1, 1024) for _ in range(2_000)]
    pool = PagePool(NUM_PAGES, PAGE_SIZE, 1)
    enter = [(seq_id, num_tokens) for seq_id, num_tokens in enumerate(lengths)]
    leave = [(seq_id, 0) for seq_id in range(len(lengths))]
    first, second = (leave, enter) if verb == "admit" else (enter, leave)
    perform(second if verb == "admit" else [], pool.admit, pool.free)

    def measured() -> float:
        perform(first, pool.admit, pool.free)
        return perform(second, pool.admit, pool.free)

    best_s = min(benchmark.pedantic(measured, rounds=1), *(measured() for _ in range(30)))
    print(f"\none {verb} of 1 to 1,024 tokens: {best_s / len(lengths) * 1e6:.2f} us")


def test_one_append(benchmark: Any) -> None:
    num_seqs, tokens = 500, 160
    pool = PagePool(NUM_PAGES, PAGE_SIZE, 1)
    for seq_id in range(num_seqs):
        pool.admit(seq_id, 1, 1 + 15 * tokens)

    def append_to_all() -> None:
        for _ in range(tokens):
            for seq_id in range(num_seqs):
                pool.append(seq_id)

    benchmark.pedantic(append_to_all, rounds=15)
    print(f"\none append of one token: {benchmark.stats.stats.min / (num_seqs * tokens) * 1e6:.2f} us")
    assert pool.counters["appends"] == 15 * num_seqs * tokens


def azure_requests() -> list[Request]:
    with gzip.open(trace_file("AzureLLMInferenceTrace_conv.csv.gz"), "rt") as lines:
        rows = [(int(row["ContextTokens"]), int(row["GeneratedTokens"])) for row in csv.DictReader(lines)]
    return [Request(seq_id, prompt, prompt + output) for seq_id, (prompt, output) in enumerate(rows)]


def bare_list_replay(requests: list[Request], num_pages: int, page_size: int) -> None:
    """The least that a token-by-token replay can do: lists, and no accounting at all."""
    free = list(range(num_pages))
    queue: deque[list[Any]] = deque([num_tokens, final_len, []] for _, num_tokens, final_len in requests)
    running: list[list[Any]] = []
    while queue or running:
        while queue and (count := -(-queue[0][0] // page_size)) <= len(free):
            running.append(queue.popleft())
            running[-1][2] = free[len(free) - count :]
            del free[len(free) - count :]
        index = 0
        while index < len(running):
            entry = running[index]
            if entry[0] % page_size == 0:
                while not free and index < len(running):
                    queue.appendleft(running.pop())
                    free += queue[0][2]
                if index == len(running):
                    break
                entry[2].append(free.pop())
            entry[0] += 1
            index += 1
        for entry in running:
            if entry[0] == entry[1]:
                free += entry[2]
        running = [entry for entry in running if entry[0] < entry[1]]


def test_the_azure_replay(benchmark: Any) -> None:
    requests = azure_requests()

    def replay() -> SaturatedQueue:
        queue = SaturatedQueue(PagePool(7864, PAGE_SIZE, 1), requests)
        live = reserved = internal = free = 0
        for split in queue.steps():
            live += split.live
            reserved += split.reserved
            internal += split.internal
            free += split.free
        assert live + reserved + internal + free == 7864 * PAGE_SIZE * queue.counters["steps"]
        return queue

    start = time.perf_counter()
    bare_list_replay(requests, 7864, PAGE_SIZE)
    bare_s = time.perf_counter() - start
    counters = benchmark.pedantic(replay, rounds=5).counters
    ours_s = min(benchmark.stats.stats.data)
    print(f"\n{counters['appends']:,} appends, all parts known at each step: {ours_s:.2f} s")
    print(f"{bare_s / ours_s:.2f} x bare lists without accounting ({bare_s:.2f} s)")
    assert counters["appends"] == 4_088_665


def benchmark_the_mooncake_replay(benchmark: Any) -> None:
    with gzip.open(trace_file("conversation_trace.jsonl.gz"), "rt") as lines:
        requests = [json.loads(line)["hash_ids"] for line in lines]
    occurrences = sum(map(len, requests))

    def replay() -> int:
        pool = PrefixPool(10_000, 512, 1)
        for seq_id, ids in enumerate(requests):
            num_tokens = len(ids) * 512
            pool.admit(seq_id, num_tokens, keys=keys_of_hash_ids(ids, 512, num_tokens, 512))
            pool.free(seq_id)
        return pool.counters["pages_hit"]

    hits = benchmark.pedantic(replay, rounds=3)
    ours_s = min(benchmark.stats.stats.data)
    print(f"\n{occurrences:,} pages, {100 * hits / occurrences:.1f} % hits in 10,000: {ours_s:.2f} s")
