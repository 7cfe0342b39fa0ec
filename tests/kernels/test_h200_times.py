"""The cost model against times of the decode kernel on an H200 (``results/reference/nvidia-h200/first_visit/``)."""

from __future__ import annotations

import json
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from impls.kernels.heuristics import Tile
from tests.kernels.work_case import cost_model_of

H200 = Path(__file__).resolve().parents[2] / "results" / "reference" / "nvidia-h200"
BATCHES = {
    "32 x 8192": [8192] * 32,
    "32 x 1024": [1024] * 32,
    "1 x 8192": [8192],
    "skew: 1 x 65536 + 63 x 512": [65536] + [512] * 63,
}
SHAPE = {"block_group": 16, "block_dim": 128}
RESULTS: list[dict[str, Any]] = json.loads((H200 / "first_visit" / "tiles.json").read_text())["results"]


def tuned(batch: str) -> dict[str, Any]:
    """What ``tune`` chose for a batch."""
    (found,) = (result for result in RESULTS if result["batch"] == batch and not result["options"])
    return found


def times_us(batch: str, tile: Tile) -> dict[int, float]:
    """Measured time by number of splits."""
    shape = (tile.block_tokens, tile.num_warps, tile.num_stages)
    return {
        result["options"]["num_splits"]: result["us"]
        for result in RESULTS
        if result["batch"] == batch
        and tuple(result["options"].get(name) for name in ("block_tokens", "num_warps", "num_stages")) == shape
    }


def tiles_of(lens: list[int], tile: Tile) -> NDArray[np.int64]:
    return -(-np.array(lens) // tile.block_tokens)


@pytest.mark.parametrize("batch", BATCHES)
def test_no_tile_with_one_two_three_or_six_splits_is_much_faster_than_what_tune_chose(batch: str) -> None:
    fastest_us = min(result["us"] for result in RESULTS if result["batch"] == batch)
    assert tuned(batch)["us"] < 1.002 * fastest_us


@pytest.mark.parametrize("batch", BATCHES)
def test_with_the_tile_that_tune_chose_no_measured_number_of_splits_is_faster_than_the_models(batch: str) -> None:
    chosen = tuned(batch)["details"]
    tile = Tile(**SHAPE, **{name: chosen.get(name) or 0 for name in ("block_tokens", "num_warps", "num_stages")})
    measured_us, cost = times_us(batch, tile), cost_model_of(tile)
    lengths = tiles_of(BATCHES[batch], tile)
    ways = {splits: -(-int(lengths.max()) // splits) for splits in measured_us}
    expected_us = dict(zip(ways, cost.estimate_us(lengths, np.array(list(ways.values()))), strict=True))
    best = min(expected_us, key=expected_us.__getitem__)
    assert measured_us[best] < 1.02 * min(measured_us.values())


@pytest.mark.parametrize(("tokens", "warps", "stages"), [(64, 4, 3), (128, 4, 2), (32, 4, 4), (64, 2, 3), (32, 1, 4)])
def test_one_program_reads_about_what_the_model_expects(tokens: int, warps: int, stages: int) -> None:
    tile = Tile(**SHAPE, block_tokens=tokens, num_warps=warps, num_stages=stages)
    kv_head_bytes = 2 * 8192 * 128 * 2  # eight programs, on a device of 132 multiprocessors
    measured = kv_head_bytes / times_us("1 x 8192", tile)[1]
    assert 0.75 < measured / tile.bytes_per_us(2, 90) < 1.25


@pytest.mark.parametrize("length", [8192, 32_768])
def test_one_program_per_multiprocessor_leaves_bandwidth_so_the_sequences_are_split(length: int) -> None:
    rows = [json.loads(path.read_text()) for path in (H200 / "batch_length" / "points").glob("*.json")]
    (row,) = (row for row in rows if row["implementation"] == "paged_triton" and row["num_seqs"] == 16
              and row["live_tokens"] == 16 * length)  # fmt: skip
    assert "1 splits, 128 programs" in row["kernel_choice"]
    assert row["ceiling_ratio"] < 0.7
    tile = Tile(**SHAPE, block_tokens=64)
    tiles = tiles_of([length] * 16, tile)
    cost = cost_model_of(tile)
    assert cost.choose_part_tiles(tiles) < tiles.max()


def test_every_batch_is_measured() -> None:
    assert [batch for batch, _ in groupby(result["batch"] for result in RESULTS)] == list(BATCHES)
