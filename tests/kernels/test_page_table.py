"""The page table of a decode step, on the host and on the device."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from impls.policies import PagePool
from impls.spec import ceil_div
from impls.storage.page_table import PageTable, build_page_table, unique_live_tokens
from impls.storage.paged_batch import to_device


def pool_of(lens: list[int], page_size: int) -> PagePool:
    num_pages = sum(ceil_div(length, page_size) for length in lens) + 1
    pool = PagePool(num_pages, page_size, 4, free_order=random.Random(0).sample(range(num_pages), num_pages))
    for seq_id, length in enumerate(lens):
        pool.admit(seq_id, length)
    return pool


@given(lens=st.lists(st.integers(1, 50), min_size=1, max_size=6), page_size=st.integers(1, 20))
def test_agrees_with_the_policy(lens: list[int], page_size: int) -> None:
    pool = pool_of(lens, page_size)
    table = build_page_table(pool, range(len(lens)))
    assert (table.page_table.dtype, table.seq_lens.dtype, table.slot_mapping.dtype) == (np.int32, np.int32, np.int64)
    for seq_id, length in enumerate(lens):
        pages = pool.page_ids(seq_id)
        assert table.page_table[seq_id, : len(pages)].tolist() == list(pages)
        assert (table.page_table[seq_id, len(pages) :] == -1).all()
        assert [table.slot_mapping[seq_id]] == pool.slots(seq_id, length - 1, length)
    assert table.seq_lens.tolist() == lens
    assert (table.max_seq_len, table.num_tokens) == (max(lens), sum(lens))
    assert unique_live_tokens(table) == sum(lens)


def test_rows_follow_the_order_asked_for() -> None:
    table = build_page_table(pool_of([5, 9, 1], 4), [2, 0])
    assert table.seq_lens.tolist() == [1, 5]


def test_no_sequences_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one sequence"):
        build_page_table(pool_of([1], 4), [])


def test_unknown_sequence_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        build_page_table(pool_of([1], 4), [7])


def test_tokens_on_a_shared_page_count_once_as_far_as_anyone_fills_it() -> None:
    table = PageTable(
        page_table=np.array([[7, 2, -1], [7, 5, 6]], dtype=np.int32),
        seq_lens=np.array([6, 9], dtype=np.int32),
        slot_mapping=np.array([9, 24]),
        page_size=4,
    )
    assert unique_live_tokens(table) == 4 + 2 + 4 + 1


def test_only_the_windows_tokens_count_and_shared_ones_once() -> None:
    table = PageTable(
        page_table=np.array([[7, 2, -1], [7, 5, 6]], dtype=np.int32),
        seq_lens=np.array([6, 9], dtype=np.int32),
        slot_mapping=np.array([9, 24]),
        page_size=4,
    )
    assert unique_live_tokens(table, 1) == 2
    assert unique_live_tokens(table, 8) == 4 + 2 + 4 + 1  # tokens 1 to 3 of the shared page twice, token 0 once
    assert unique_live_tokens(table, 100) == unique_live_tokens(table)


@pytest.mark.parametrize("lens", [[5], [1, 9, 30]])
def test_device_copy_is_equal_and_aligned_for_wide_loads(lens: list[int]) -> None:
    host = build_page_table(pool_of(lens, 4), range(len(lens)))
    batch = to_device(host, torch.device("cpu"))
    for name in ("page_table", "seq_lens", "slot_mapping"):
        tensor, array = getattr(batch, name), getattr(host, name)
        np.testing.assert_array_equal(tensor.numpy(), array, strict=True)
        assert tensor.data_ptr() % 16 == 0
    assert batch.metadata_bytes == host.page_table.nbytes + host.seq_lens.nbytes + host.slot_mapping.nbytes
