"""Work lists: what is cut, how often, and for what. Arithmetic alone, no torch and no Triton."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from impls.launch.work_list import Tokens, WorkList, build_query_tiles, build_work_list
from tests.kernels.work_case import BLOCK_TOKENS, GROUP_SIZE, HEAD_DIM, NUM_KV_HEADS, cost_model

SKEWED = [131_072] + [512] * 255


def tokens_of(lens: Sequence[int], window: int | None = None, block_tokens: int = BLOCK_TOKENS) -> Tokens:
    return Tokens.of(np.array(lens, dtype=np.int32), window, block_tokens)


def work_of(lens: Sequence[int], **device: int) -> WorkList:
    tokens = tokens_of(lens)
    return build_work_list(tokens, cost_model(**device).choose_part_tiles(tokens.tiles))


@pytest.mark.parametrize("length", [1024, 2048, 4096, 8192])
def test_32_sequences_fill_an_h100_without_splits(length: int) -> None:
    assert work_of([length] * 32).num_splits == 1


@pytest.mark.parametrize("length", [1024, 8192, 131_072])
def test_one_sequence_is_split_over_nearly_all_multiprocessors(length: int) -> None:
    programs = work_of([length]).num_splits * NUM_KV_HEADS
    assert 0.9 * 132 <= programs <= cost_model().slots


def test_one_short_sequence_is_not_split() -> None:
    assert work_of([64]).num_splits == 1


def test_a_batch_that_needs_a_little_more_than_one_round_is_split() -> None:
    assert work_of([8192] * 49).num_splits == 1
    assert work_of([8192] * 50).num_splits > 1


def test_the_long_sequence_of_a_skewed_batch_is_split_and_the_others_are_not() -> None:
    work = work_of(SKEWED)
    assert work.merged_seqs.tolist() == [0]
    assert (work.items[:, 0] != 0).sum() == 255
    longest_tokens = (work.items[:, 2] - work.items[:, 1]).max()
    even_tokens = sum(SKEWED) * NUM_KV_HEADS / cost_model().slots
    assert longest_tokens < 1.5 * even_tokens


def test_a_skewed_batch_launches_programs_and_reserves_parts_for_its_work_only(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Before, the grid was sequences x KV heads x splits of the longest, and so was the workspace."""
    splits_of_the_longest, part_bytes = 128, 32 * (HEAD_DIM + 1) * 4
    before = len(SKEWED) * NUM_KV_HEADS * splits_of_the_longest
    before_bytes = len(SKEWED) * splits_of_the_longest * part_bytes
    work = work_of(SKEWED)
    after, after_bytes = len(work.items) * NUM_KV_HEADS, work.num_parts * part_bytes
    with capsys.disabled():
        print(f"\n1 x 131,072 + 255 x 512: {before:,} programs before, {after:,} now; "
              f"workspace {before_bytes:,} bytes before, {after_bytes:,} now")  # fmt: skip
    assert before == 262_144
    assert before_bytes == 541_065_216
    assert after < 0.01 * before
    assert after_bytes < 0.01 * before_bytes


def test_an_interpreter_of_one_multiprocessor_never_splits_equal_lengths() -> None:
    assert work_of([500, 500], capability=89, multiprocessors=1).num_splits == 1


@given(
    lens=st.lists(st.integers(0, 20_000), min_size=1, max_size=40),
    part_tiles=st.integers(1, 200),
    block_tokens=st.sampled_from((16, 32, 64, 128)),
    window=st.sampled_from((None, 1, 100, 5000)),
)
def test_every_token_is_in_one_item(lens: list[int], part_tiles: int, block_tokens: int, window: int | None) -> None:
    tokens = tokens_of(lens, window, block_tokens)
    work = build_work_list(tokens, part_tiles)
    for seq, seq_len in enumerate(lens):
        own = work.items[work.items[:, 0] == seq]
        own = own[np.argsort(own[:, 1], kind="stable")]
        seen = 0 if window is None else max(seq_len - window, 0)
        assert seen - block_tokens < own[0, 1] <= seen
        assert own[-1, 2] == seq_len
        assert own[1:, 1].tolist() == own[:-1, 2].tolist()
        assert (own[:, 1] % block_tokens == 0).all()
        assert seq_len == 0 or (own[:, 1] < own[:, 2]).all()
        assert (own[:, 2] - own[:, 1] <= part_tiles * block_tokens).all()


@given(lens=st.lists(st.integers(0, 20_000), min_size=1, max_size=40), part_tiles=st.integers(1, 200))
def test_parts_are_numbered_by_sequence_and_whole_sequences_have_none(lens: list[int], part_tiles: int) -> None:
    work = build_work_list(tokens_of(lens), part_tiles)
    numbers = np.sort(work.items[:, 3][work.items[:, 3] >= 0])
    assert numbers.tolist() == list(range(work.num_parts))
    for index, seq in enumerate(work.merged_seqs.tolist()):
        own = np.sort(work.items[work.items[:, 0] == seq][:, 3])
        assert own.tolist() == list(range(work.part_indptr[index], work.part_indptr[index + 1]))
        assert len(own) > 1
    whole = work.items[work.items[:, 3] < 0][:, 0]
    assert sorted([*whole.tolist(), *work.merged_seqs.tolist()]) == list(range(len(lens)))


@given(lens=st.lists(st.integers(0, 20_000), min_size=1, max_size=40), part_tiles=st.integers(1, 200))
def test_the_longest_items_come_first(lens: list[int], part_tiles: int) -> None:
    items = build_work_list(tokens_of(lens), part_tiles).items
    assert (np.diff(items[:, 2] - items[:, 1]) <= 0).all()


@given(lens=st.lists(st.integers(0, 200_000), min_size=1, max_size=40), capability=st.sampled_from((80, 89, 90, 100)))
def test_the_choice_is_never_much_worse_than_no_cut(lens: list[int], capability: int) -> None:
    cost, tiles = cost_model(capability), tokens_of(lens).tiles
    chosen = cost.choose_part_tiles(tiles)
    chosen_us, whole_us = cost.estimate_us(tiles, np.array([chosen, max(tiles.max(), 1)]))
    assert chosen_us <= whole_us


def test_a_padding_row_has_one_item_without_tokens() -> None:
    assert build_work_list(tokens_of([0, 200]), 1).items[-1].tolist() == [0, 0, 0, -1]


def test_packed_arrays_begin_at_aligned_elements() -> None:
    work = build_work_list(tokens_of([700, 1, 300]), 2)
    packed, (merged_start, indptr_start) = work.packed()
    assert merged_start % 4 == indptr_start % 4 == 0
    assert packed[:merged_start].reshape(-1, 4).tolist() == work.items.tolist()
    assert packed[merged_start : merged_start + 2].tolist() == work.merged_seqs.tolist() == [0, 2]
    assert packed[indptr_start:].tolist() == work.part_indptr.tolist() == [0, 6, 9]


@given(
    pairs=st.lists(st.tuples(st.integers(0, 300), st.integers(0, 300)), min_size=1, max_size=20),
    group_size=st.sampled_from((1, 3, 4, 40)),
    block_rows=st.sampled_from((16, 64)),
)
def test_every_query_row_is_in_one_tile_and_the_longest_come_first(
    pairs: list[tuple[int, int]], group_size: int, block_rows: int
) -> None:
    num_queries = [count for count, _ in pairs]
    seq_lens = np.array([sum(pair) for pair in pairs], dtype=np.int32)
    tiles = build_query_tiles(num_queries, seq_lens, group_size, block_rows)
    for seq, count in enumerate(num_queries):
        rows = np.sort(tiles[tiles[:, 0] == seq][:, 1])
        assert rows.tolist() == list(range(0, count * group_size, block_rows))
    queries = np.array(num_queries)[tiles[:, 0]]
    last = np.minimum((tiles[:, 1] + block_rows - 1) // group_size, queries - 1)
    seen = seq_lens[tiles[:, 0]] - queries + last
    assert (np.diff(seen) <= 0).all()


def test_a_chunk_among_decoding_sequences_launches_programs_for_its_rows_only() -> None:
    """Before, the grid was tiles of the most queries x sequences x KV heads: 262,144 programs."""
    num_queries = [2048] + [1] * 255
    tiles = build_query_tiles(num_queries, np.full(256, 4096, dtype=np.int32), GROUP_SIZE, block_rows=64)
    assert len(tiles) * NUM_KV_HEADS == (2048 * GROUP_SIZE // 64 + 255) * NUM_KV_HEADS == 3064
