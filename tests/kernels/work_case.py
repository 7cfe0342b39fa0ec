"""The cost model of an H200 and the model shape that most tests of work lists use."""

from __future__ import annotations

from impls.kernels.heuristics import Tile, default_tile, sm_bytes_per_us
from impls.launch.work_list import CostModel

NUM_KV_HEADS, GROUP_SIZE, HEAD_DIM, ELEMENT_BYTES = 8, 4, 128, 2
BLOCK_TOKENS = 64


def cost_model(capability: int = 90, multiprocessors: int = 132) -> CostModel:
    """Of 32/8 heads x 128 in 16 bits, as the launcher makes it."""
    tile = default_tile(group_size=GROUP_SIZE, head_dim=HEAD_DIM, element_bytes=ELEMENT_BYTES)
    assert tile.block_tokens == BLOCK_TOKENS
    return cost_model_of(tile, capability, multiprocessors)


def cost_model_of(tile: Tile, capability: int = 90, multiprocessors: int = 132) -> CostModel:
    """Of the same shape with another tile."""
    return CostModel(
        slots=multiprocessors * tile.programs_per_sm(ELEMENT_BYTES, ELEMENT_BYTES, capability),
        device_bytes_per_us=multiprocessors * sm_bytes_per_us(capability),
        program_bytes_per_us=tile.bytes_per_us(ELEMENT_BYTES, capability),
        programs_per_item=NUM_KV_HEADS,
        tile_bytes=2 * tile.block_tokens * HEAD_DIM * ELEMENT_BYTES,
        part_bytes=2 * 4 * GROUP_SIZE * (HEAD_DIM + 1),
    )
