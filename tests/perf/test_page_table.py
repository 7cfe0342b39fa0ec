"""Host time of page tables and slot mappings, beside simple code with Python lists.

python -m pytest tests/perf/test_page_table.py -m perf -s -p no:xdist
"""

from __future__ import annotations

import time
from array import array
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from impls.policies import PagePool
from impls.storage.newest_tokens import newest_slots
from impls.storage.page_table import build_page_table

pytestmark = pytest.mark.perf

NUM_SEQS, SEQ_LEN = 32, 8192


def pool_with_shuffled_pages(page_size: int) -> PagePool:
    num_pages = NUM_SEQS * SEQ_LEN // page_size
    order = np.random.default_rng(0).permutation(num_pages).tolist()
    pool = PagePool(num_pages, page_size, 1, free_order=order)
    for seq_id in range(NUM_SEQS):
        pool.admit(seq_id, SEQ_LEN)
    return pool


def table_from_lists(tables: list[list[int]]) -> NDArray[np.int32]:
    """The way before pages were kept in arrays: copy each list, convert page by page, scatter by a mask."""
    pages = [table.copy() for table in tables]
    counts = np.array([len(owned) for owned in pages])
    columns = np.arange(counts.max())
    page_table = np.full((len(pages), columns.size), -1, dtype=np.int32)
    flat = array("i")
    for owned in pages:
        flat.fromlist(owned)
    page_table[columns < counts[:, None]] = flat
    return page_table


@pytest.mark.parametrize("page_size", [16, 4, 1])
def test_building_a_page_table(benchmark: Any, page_size: int) -> None:
    pool = pool_with_shuffled_pages(page_size)
    lists = [pool.page_ids(seq_id).tolist() for seq_id in range(NUM_SEQS)]
    before_s = min(_timed(lambda: table_from_lists(lists)) for _ in range(30))
    table = benchmark.pedantic(lambda: build_page_table(pool, range(NUM_SEQS)), rounds=60)
    after_s = benchmark.stats.stats.min
    ratio = before_s / after_s
    print(f"\n{NUM_SEQS} x {SEQ_LEN:,}, page {page_size}: {1e6 * after_s:.0f} us, lists {ratio:.1f} x as long")
    assert np.array_equal(table.page_table, table_from_lists(lists))
    assert ratio >= 3


def _timed(call: Any) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


@pytest.mark.parametrize("page_size", [16, 1])
def test_slots_of_query_tokens(benchmark: Any, page_size: int) -> None:
    pool = pool_with_shuffled_pages(page_size)
    seq_ids, num_queries = range(NUM_SEQS), [SEQ_LEN] * NUM_SEQS

    def slots_one_by_one() -> list[int]:
        return [slot for seq_id in seq_ids for slot in pool.slots(seq_id, 0, SEQ_LEN)]

    before_s = min(_timed(slots_one_by_one) for _ in range(3))
    slots = benchmark.pedantic(lambda: newest_slots(pool, seq_ids, num_queries), rounds=20)
    ratio = before_s / benchmark.stats.stats.min
    print(f"\n{NUM_SEQS} prompts of {SEQ_LEN:,}, page {page_size}: one by one {ratio:.0f} x as long")
    assert slots.tolist() == slots_one_by_one()
    assert ratio >= 5
