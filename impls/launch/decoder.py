"""Launches decode attention for every cache that stands on our Triton kernels: tiles, splits, merging."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from impls.kernels import heuristics
from impls.kernels.heuristics import Splits, Tile
from impls.kernels.support import TILE_OPTIONS, tiles_for
from impls.launch.setup import Layer, Rows, Setup
from impls.launch.tile_cache import user_cache
from impls.launch.tuning import fastest
from impls.spec import DTYPE_BYTES
from impls.storage.slots import positive_option

DECODER_OPTIONS = (*TILE_OPTIONS, "num_splits")
"""``impl.options`` that a decoder takes."""


@dataclass(frozen=True, kw_only=True)
class LaunchPlan:
    """How one batch is launched.

    Attributes:
        tile: compile-time shape of the decode kernel.
        splits: how sequences are cut.
        parts: float32 ``[num_seqs, num_query_heads, num_splits, head_dim]``, the parts to merge;
            ``None`` if there is one split.
        lse: float32 ``[num_seqs, num_query_heads, num_splits]``, their log-sum-exp, base two.
    """

    tile: Tile
    splits: Splits
    parts: Tensor | None
    lse: Tensor | None


class TritonDecoder:
    """Launches the decode kernel.

    Args:
        setup: the kernels, and what for.
        options: ``block_tokens``, ``num_warps`` and ``num_stages`` of the decode kernel, which
            otherwise ``tune`` chooses; ``num_splits`` instead of the heuristic's.

    Raises:
        ValueError: an option is out of range.
    """

    def __init__(self, setup: Setup, options: Mapping[str, object]) -> None:
        self._setup = setup
        self._model = setup.model
        self._num_splits = positive_option(options, "num_splits", None)
        tiles = tiles_for(setup.model, options)
        self.tiles = tiles[:1] if setup.kernels.are_interpreted else tiles  # an interpreter's time says nothing
        self.tile = self.tiles[0]
        self._workspace = torch.empty(0, dtype=torch.float32, device=setup.device)
        self.facts: dict[str, str | int | float | None] = {}

    def plan(self, host_lens: NDArray[np.int32]) -> LaunchPlan:
        """How to launch on sequences of these lengths, with the tile chosen last."""
        return self.plan_with(self.tile, host_lens)

    def tune(self, query: Tensor, layer: Layer, rows: Rows) -> LaunchPlan:
        """Take the tile kept on disk for such a batch, or time all in contention; compile, and plan the batch anew."""
        plans = {tile: self.plan_with(tile, rows.host_lens) for tile in self.tiles}
        calls = {tile: partial(self.attend, query, layer, rows, plan) for tile, plan in plans.items()}
        time_them = partial(fastest, calls, self._setup.device)
        if len(self.tiles) == 1:
            self.tile, source = time_them(), "the only one"
        else:
            question = self._setup.question | _batch_class(rows.host_lens)
            self.tile, source = user_cache().choose(question, self.tiles, time_them)
            calls[self.tile]()
        plan, tile = plans[self.tile], self.tile
        self.facts = {
            "kernel_choice": f"{tile.block_tokens} tokens, {tile.num_warps} warps, {tile.num_stages} stages "
            f"({source}), {plan.splits.num_splits} splits",
            "num_splits": plan.splits.num_splits,
            "block_tokens": tile.block_tokens,
            "num_warps": tile.num_warps,
            "num_stages": tile.num_stages,
        }
        return plan

    def attend(self, query: Tensor, layer: Layer, rows: Rows, plan: LaunchPlan) -> Tensor:
        """Attention of one new token per sequence over one layer; see ``KVCache.decode``."""
        query = query.contiguous()
        out = torch.empty_like(query)
        num_seqs, num_query_heads, head_dim = query.shape
        num_splits, split_tokens = plan.splits.num_splits, plan.splits.split_tokens
        self._setup.kernels.decode[(num_seqs * self._model.num_kv_heads, num_splits)](
            out if plan.parts is None else plan.parts,
            plan.lse,
            query,
            *layer,
            rows.table,
            rows.seq_lens,
            rows.table.stride(0),
            split_tokens,
            self._setup.scale,
            BLOCK_GROUP=plan.tile.block_group,
            BLOCK_DIM=plan.tile.block_dim,
            BLOCK_TOKENS=plan.tile.block_tokens,
            NUM_STAGES=plan.tile.num_stages,
            num_warps=plan.tile.num_warps,
            maxnreg=heuristics.register_limit(
                plan.tile,
                head_dim=head_dim,
                element_bytes=self._model.element_bytes,
                stored_bytes=self._model.stored_bytes,
            ),
            **self._setup.constants,
        )
        if plan.parts is not None:
            self._setup.kernels.merge[(num_seqs * num_query_heads,)](
                out,
                plan.parts,
                plan.lse,
                rows.seq_lens,
                num_splits,
                split_tokens,
                NUM_QUERY_HEADS=num_query_heads,
                HEAD_DIM=head_dim,
                WINDOW=self._model.sliding_window or 0,
                BLOCK_DIM=plan.tile.block_dim,
                BLOCK_TOKENS=plan.tile.block_tokens,
                BLOCK_SPLITS=heuristics.MERGE_SPLITS,
            )
        return out

    def plan_with(self, tile: Tile, host_lens: NDArray[np.int32]) -> LaunchPlan:
        """How to launch on sequences of these lengths with this tile."""
        splits = self._splits(tile, host_lens)
        if splits.num_splits == 1:
            return LaunchPlan(tile=tile, splits=splits, parts=None, lse=None)
        rows = len(host_lens) * self._model.num_query_heads * splits.num_splits
        parts, lse = self._reserve(rows * self._model.head_dim, rows)
        return LaunchPlan(tile=tile, splits=splits, parts=parts, lse=lse)

    def _splits(self, tile: Tile, host_lens: NDArray[np.int32]) -> Splits:
        read = _tokens_read(host_lens, self._model.sliding_window, tile.block_tokens)
        longest = int(read.max())
        if self._num_splits is not None:
            return heuristics.even_splits(self._num_splits, max_seq_len=longest, block_tokens=tile.block_tokens)
        programs = tile.programs_per_sm(
            DTYPE_BYTES[self._model.dtype], self._model.stored_bytes, self._setup.target.capability
        )
        return heuristics.choose_splits(
            num_seqs=len(host_lens),
            num_kv_heads=self._model.num_kv_heads,
            max_seq_len=longest,
            num_tokens=int(read.sum(dtype=np.int64)),
            block_tokens=tile.block_tokens,
            slots=self._setup.target.multiprocessors * programs,
        )

    def _reserve(self, *sizes: int) -> Sequence[Tensor]:
        """Tensors of those many elements in one workspace that only grows, shared by all batches.

        Sharing is safe: the parts of a step are merged before the next step begins.
        """
        if self._workspace.numel() < sum(sizes):
            self._workspace = torch.empty(sum(sizes), dtype=torch.float32, device=self._setup.device)
        tensors: Sequence[Tensor] = self._workspace[: sum(sizes)].split(sizes)
        return tensors


def _tokens_read(host_lens: NDArray[np.int32], window: int | None, block_tokens: int) -> NDArray[np.int32]:
    """Tokens from the first tile that a window touches to the end, as ``impls.kernels.tiles`` has it."""
    if window is None:
        return host_lens
    skipped: NDArray[np.int32] = np.maximum(host_lens - window, 0) // block_tokens * block_tokens
    return host_lens - skipped


def _batch_class(host_lens: NDArray[np.int32]) -> dict[str, int]:
    """Batches that share a tile: as many sequences and as long a longest, up to the next power of two."""
    return {
        "num_seqs": heuristics.next_power_of_2(len(host_lens)),
        "max_seq_len": heuristics.next_power_of_2(int(host_lens.max())),
    }
