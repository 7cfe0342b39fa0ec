"""The launch heuristic: arithmetic alone, no torch and no Triton."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from impls.kernels.heuristics import (
    Splits,
    Tile,
    choose_splits,
    default_tile,
    even_splits,
    register_limit,
    tile_contenders,
)

H100_SLOTS = 132 * 3


def splits_of(*lens: int, num_kv_heads: int = 8, block_tokens: int = 64, slots: int = H100_SLOTS) -> Splits:
    return choose_splits(
        num_seqs=len(lens),
        num_kv_heads=num_kv_heads,
        max_seq_len=max(lens),
        num_tokens=sum(lens),
        block_tokens=block_tokens,
        slots=slots,
    )


def test_one_short_sequence_is_not_split() -> None:
    assert splits_of(64) == Splits(num_splits=1, split_tokens=64)


def test_one_long_sequence_fills_the_device_in_one_round() -> None:
    splits = splits_of(131072)
    assert 0.9 * H100_SLOTS < 8 * splits.num_splits <= H100_SLOTS


def test_a_batch_that_fills_the_device_in_one_round_is_not_split() -> None:
    assert splits_of(*[2048] * 49).num_splits == 1


def test_a_batch_that_needs_a_little_more_than_one_round_is_split() -> None:
    assert splits_of(*[8192] * 50).num_splits > 1


def test_one_long_sequence_among_short_ones_is_split() -> None:
    alone, among = splits_of(16384), splits_of(16384, *[64] * 15)
    assert among.num_splits > alone.num_splits // 2


def test_an_interpreter_of_one_slot_never_splits_equal_lengths() -> None:
    assert splits_of(500, 500, slots=1).num_splits == 1


@given(
    lens=st.lists(st.integers(1, 200_000), min_size=1, max_size=40),
    num_kv_heads=st.integers(1, 40),
    block_tokens=st.sampled_from((16, 32, 64, 128)),
    slots=st.integers(1, 1000),
)
def test_splits_cover_the_longest_sequence_and_none_is_empty(
    lens: list[int], num_kv_heads: int, block_tokens: int, slots: int
) -> None:
    splits = splits_of(*lens, num_kv_heads=num_kv_heads, block_tokens=block_tokens, slots=slots)
    assert splits.split_tokens % block_tokens == 0
    assert (splits.num_splits - 1) * splits.split_tokens < max(lens) <= splits.num_splits * splits.split_tokens
    assert splits.num_splits <= 128


@given(num_splits=st.integers(1, 300), max_seq_len=st.integers(1, 200_000), block_tokens=st.sampled_from((16, 64)))
def test_even_splits_are_at_most_those_asked_for(num_splits: int, max_seq_len: int, block_tokens: int) -> None:
    splits = even_splits(num_splits, max_seq_len=max_seq_len, block_tokens=block_tokens)
    assert splits.num_splits <= num_splits
    assert splits.split_tokens % block_tokens == 0
    assert (splits.num_splits - 1) * splits.split_tokens < max_seq_len <= splits.num_splits * splits.split_tokens


@pytest.mark.parametrize(
    ("group_size", "head_dim", "element_bytes", "expected"),
    [
        (1, 128, 2, Tile(block_group=1, block_dim=128, block_tokens=32)),
        (1, 64, 4, Tile(block_group=1, block_dim=64, block_tokens=32)),
        (4, 128, 2, Tile(block_group=16, block_dim=128, block_tokens=64)),
        (4, 80, 2, Tile(block_group=16, block_dim=128, block_tokens=64)),
        (20, 64, 2, Tile(block_group=32, block_dim=64, block_tokens=64)),
        (8, 256, 2, Tile(block_group=16, block_dim=256, block_tokens=32)),
        (4, 128, 4, Tile(block_group=16, block_dim=128, block_tokens=16)),
    ],
)
def test_default_tile(group_size: int, head_dim: int, element_bytes: int, expected: Tile) -> None:
    assert default_tile(group_size=group_size, head_dim=head_dim, element_bytes=element_bytes) == expected


def test_contenders_begin_with_the_default_and_differ() -> None:
    tile = default_tile(group_size=4, head_dim=128, element_bytes=2)
    first, *others = tile_contenders(tile)
    assert first == tile
    assert tile not in others


@pytest.mark.parametrize(
    ("group_size", "head_dim", "stored_bytes", "expected"),
    [(4, 128, 1, 128), (4, 128, 2, None), (20, 128, 1, None), (1, 128, 1, None), (4, 129, 1, None)],
)
def test_only_pairs_and_16_rows_are_held_to_registers(
    group_size: int, head_dim: int, stored_bytes: int, expected: int | None
) -> None:
    tile = default_tile(group_size=group_size, head_dim=head_dim, element_bytes=2)
    assert register_limit(tile, head_dim=head_dim, element_bytes=2, stored_bytes=stored_bytes) == expected


def test_shared_memory_is_buffers_query_and_weights() -> None:
    tile = Tile(block_group=16, block_dim=128, block_tokens=64, num_stages=3)
    keys_and_values_in_flight = 2 * 2 * 64 * 128
    scratch = 256
    assert tile.shared_bytes(2, 2) == 2 * (keys_and_values_in_flight + 16 * 128 + 16 * 64) + scratch
    assert [tile.programs_per_sm(2, 2, capability) for capability in (80, 86, 90)] == [2, 1, 3]
    assert tile.shared_bytes(2, 1) == keys_and_values_in_flight + 2 * (16 * 128 + 16 * 64) + scratch
    assert tile.programs_per_sm(2, 1, 80) == 3
