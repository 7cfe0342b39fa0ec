"""Tiles and their limits: arithmetic alone, no torch and no Triton."""

from __future__ import annotations

import pytest

from impls.kernels.heuristics import Tile, default_tile, register_limit, tile_contenders


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


def shapes(group_size: int, head_dim: int, element_bytes: int) -> list[tuple[int, int, int]]:
    """Tokens, warps and stages of each contender."""
    tile = default_tile(group_size=group_size, head_dim=head_dim, element_bytes=element_bytes)
    contenders = tile_contenders(tile, element_bytes)
    assert contenders[0] == tile
    return [(one.block_tokens, one.num_warps, one.num_stages) for one in contenders]


def test_contenders_on_tensor_cores() -> None:
    assert shapes(4, 128, 2) == [(64, 4, 3), (32, 4, 4), (32, 1, 4), (64, 2, 3), (128, 4, 2)]


@pytest.mark.parametrize(
    ("group_size", "head_dim", "element_bytes", "expected"),
    [
        (1, 128, 2, [(32, 4, 3), (16, 4, 4)]),
        (4, 128, 4, [(16, 4, 3), (16, 4, 4)]),
        (4, 256, 2, [(32, 4, 3), (16, 4, 4)]),
        (20, 128, 2, [(64, 4, 3)]),
    ],
)
def test_fewer_contenders_elsewhere(
    group_size: int, head_dim: int, element_bytes: int, expected: list[tuple[int, int, int]]
) -> None:
    assert shapes(group_size, head_dim, element_bytes) == expected


def test_a_program_reads_what_is_in_flight_by_the_latency() -> None:
    tile = Tile(block_group=16, block_dim=64, block_tokens=32, num_stages=2)
    assert tile.bytes_per_us(2, 90) == pytest.approx(2 * 32 * 64 * 2 / 2.4)
    longer = Tile(block_group=16, block_dim=128, block_tokens=128, num_stages=3)
    assert longer.bytes_per_us(2, 90) == 1.25 * 35_000  # not more than its multiprocessor draws


@pytest.mark.parametrize(
    ("group_size", "head_dim", "stored_bytes", "expected"),
    [(4, 128, 1, 128), (4, 128, 2, None), (20, 128, 1, None), (1, 128, 1, None), (4, 129, 1, None)],
)
def test_only_pairs_and_16_rows_are_held_to_registers(
    group_size: int, head_dim: int, stored_bytes: int, expected: int | None
) -> None:
    tile = default_tile(group_size=group_size, head_dim=head_dim, element_bytes=2)
    assert register_limit(tile, head_dim=head_dim, element_bytes=2, stored_bytes=stored_bytes) == expected


def test_a_warp_alone_that_reads_pairs_has_all_registers() -> None:
    tile = Tile(block_group=16, block_dim=128, block_tokens=32, num_warps=1, num_stages=4)
    limits = [register_limit(tile, head_dim=128, element_bytes=2, stored_bytes=stored) for stored in (1, 2)]
    assert limits == [255, None]


def test_shared_memory_is_buffers_query_and_weights() -> None:
    tile = Tile(block_group=16, block_dim=128, block_tokens=64, num_stages=3)
    keys_and_values_in_flight = 2 * 2 * 64 * 128
    scratch = 256
    assert tile.shared_bytes(2, 2) == 2 * (keys_and_values_in_flight + 16 * 128 + 16 * 64) + scratch
    assert [tile.programs_per_sm(2, 2, capability) for capability in (80, 86, 90)] == [2, 1, 3]
    assert tile.shared_bytes(2, 1) == keys_and_values_in_flight + 2 * (16 * 128 + 16 * 64) + scratch
    assert tile.programs_per_sm(2, 1, 80) == 3
