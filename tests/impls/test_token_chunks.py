"""Cutting a batch into chunks: for all sizes, every token occurs once and all slots may be read."""

from __future__ import annotations

import random

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from impls.cpu.token_chunks import chunks_of_seqs, cut
from impls.policies import PagePool
from impls.storage.page_table import PageTable, build_page_table

LENS = st.lists(st.integers(1, 40), min_size=1, max_size=5)


def table_of(lens: list[int], page_size: int, *, shuffled: bool = True) -> tuple[PageTable, PagePool]:
    num_pages = sum(-(-seq_len // page_size) for seq_len in lens)
    order = random.Random(0).sample(range(num_pages), num_pages) if shuffled else None
    policy = PagePool(num_pages, page_size, 1, free_order=order)
    for seq_id, seq_len in enumerate(lens):
        policy.admit(seq_id, seq_len)
    return build_page_table(policy, range(len(lens))), policy


@given(lens=LENS, page_size=st.integers(1, 20), chunk_tokens=st.integers(1, 50), group_tokens=st.integers(0, 80))
def test_chunks_hold_every_token_once(lens: list[int], page_size: int, chunk_tokens: int, group_tokens: int) -> None:
    table, policy = table_of(lens, page_size)
    groups = cut(table, chunk_tokens, group_tokens)
    chunks = [
        (int(seq), slots.tolist(), int(length))
        for group in groups
        for seq, slots, length in zip(group.seqs, group.slots, group.lens, strict=True)
    ]
    for seq_id, (row, seq_len) in enumerate(zip(chunks_of_seqs(groups, len(lens)), lens, strict=True)):
        own = [chunks[index] for index in row if index < len(chunks)]
        assert {seq for seq, _, _ in own} == {seq_id}
        live = [slot for _, slots, length in own for slot in slots[:length]]
        assert sorted(live) == sorted(policy.slots(seq_id, 0, seq_len))
        assert all(set(slots[length:]) <= {slots[length - 1]} for _, slots, length in own)
    assert sum(len(row[row < len(chunks)]) for row in chunks_of_seqs(groups, len(lens))) == len(chunks)


@given(lens=LENS, chunk_tokens=st.integers(1, 50), group_tokens=st.integers(0, 80), num_groups=st.integers(1, 9))
def test_groups_are_sorted_and_small(lens: list[int], chunk_tokens: int, group_tokens: int, num_groups: int) -> None:
    groups = cut(table_of(lens, 4)[0], chunk_tokens, group_tokens, num_groups)
    num_chunks = sum(len(group.lens) for group in groups)
    assert len(groups) >= min(num_groups, num_chunks)
    all_lens = np.concatenate([group.lens for group in groups])
    assert (np.diff(all_lens) <= 0).all()
    for group in groups:
        assert group.slots.shape == (len(group.lens), group.lens[0])
        assert group.slots.size <= max(group_tokens, chunk_tokens)
        assert group.is_ragged == (group.lens.min() < group.lens.max())


def test_pages_in_a_row_are_found() -> None:
    in_a_row = cut(table_of([32, 32], 8, shuffled=False)[0], 8, 16)
    assert [group.is_consecutive for group in in_a_row] == [True] * 4
    one_page = cut(table_of([32, 32], 8)[0], 8, 16)  # a chunk is a page, and sorted pages are adjacent
    assert [group.is_consecutive for group in one_page] == [True] * 4
    assert not any(group.is_consecutive for group in cut(table_of([32, 32], 4)[0], 8, 16))
    tail = cut(table_of([8, 3], 8, shuffled=False)[0], 8, 16)
    assert [group.is_consecutive for group in tail] == [False]  # its padding repeats a slot
