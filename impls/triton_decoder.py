"""Launches the decode and write kernels for a model; every cache that stands on Triton has one."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from impls.interface import Unsupported
from impls.kernels import heuristics
from impls.kernels.heuristics import Splits, Tile
from impls.kernels.support import (
    TILE_OPTIONS,
    Device,
    KernelCache,
    Kernels,
    check_shape,
    check_target,
    describe_device,
    load_kernels,
    tiles_for,
)
from impls.spec import DTYPE_BYTES, ModelSpec, ceil_div
from impls.storage import positive_option
from impls.tuning import fastest

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


@dataclass(frozen=True, kw_only=True)
class Rows:
    """The sequences of a batch, as the decode kernel finds them.

    Attributes:
        table: int32 ``[num_seqs, max_pages_per_seq]``, pages, or int64 ``[num_seqs]``, first slots.
        seq_lens: int32 ``[num_seqs]``.
        host_lens: the same in NumPy, so that nobody reads back from the device.
    """

    table: Tensor
    seq_lens: Tensor
    host_lens: NDArray[np.int32]


class Layer(NamedTuple):
    """One layer's storage, as the kernels take it.

    Attributes:
        keys: of the layout that the decoder was made for.
        values: as ``keys``.
        scales: float32 ``[2, num_kv_heads]`` of K and V, where the cache is quantised, else ``None``.
    """

    keys: Tensor
    values: Tensor
    scales: Tensor | None


class Storage:
    """K and V of some layers, and their scales where the cache is quantised.

    Args:
        model: shapes and dtype.
        make: makes one tensor of K or V.
        num_layers: layers that get storage.
        device: where the scales lie.

    Attributes:
        tensors: K of each layer, then V of each layer.
    """

    def __init__(self, model: ModelSpec, make: Callable[[], Tensor], num_layers: int, device: torch.device) -> None:
        self.tensors: Sequence[Tensor] = [make() for _ in range(2 * num_layers)]
        is_quantised = model.kv_dtype is not None
        self._scales = torch.ones((num_layers, 2, model.num_kv_heads), device=device) if is_quantised else None

    @property
    def nbytes(self) -> int:
        """Bytes of K and V."""
        return sum(tensor.nbytes for tensor in self.tensors)

    @property
    def scales_bytes(self) -> int:
        """Bytes of one layer's scales."""
        return 0 if self._scales is None else self._scales[0].nbytes

    def layer(self, index: int) -> Layer:
        """One layer."""
        num_layers = len(self.tensors) // 2
        scales = None if self._scales is None else self._scales[index]
        return Layer(self.tensors[index], self.tensors[index + num_layers], scales)

    def set_scales(self, layer: int, k_scales: Tensor, v_scales: Tensor) -> None:
        """See ``QuantisedKVCache.set_scales``.

        Raises:
            Unsupported: the cache is not quantised.
        """
        if self._scales is None:
            raise Unsupported("a cache whose model has no kv_dtype has no scales to set")
        self._scales[layer] = torch.stack((k_scales, v_scales))


class TritonDecoder:
    """The kernels for one model, one device and one way to lay out K and V.

    Args:
        model: shapes and dtype.
        name: of the implementation, for what it refuses.
        device: a CUDA device, or any under Triton's interpreter.
        options: ``block_tokens``, ``num_warps`` and ``num_stages`` of the decode kernel, which
            otherwise ``tune`` chooses; ``num_splits`` instead of the heuristic's.
        layout: where elements lie, see ``KernelCache``.
        kernels: instead of the kernels themselves: what notes their launches down.
        target: instead of what ``device`` is: what to launch for.

    Raises:
        Unsupported: there is no Triton, or this device or shape cannot be served.
        ValueError: an option is out of range.
    """

    def __init__(
        self,
        model: ModelSpec,
        name: str,
        *,
        device: torch.device,
        options: Mapping[str, object],
        layout: KernelCache,
        kernels: Kernels | None = None,
        target: Device | None = None,
    ) -> None:
        check_shape(model, name)
        self._model = model
        self._device = device
        self._kernels = kernels or load_kernels(name)
        self._target = target or describe_device(device, name, are_interpreted=self._kernels.are_interpreted)
        check_target(model, name, self._target)
        self._num_splits = positive_option(options, "num_splits", None)
        tiles = tiles_for(model, options)
        self.tiles = tiles[:1] if self._kernels.are_interpreted else tiles  # an interpreter's time says nothing
        self.tile = self.tiles[0]
        self._layout = layout
        self._workspace = torch.empty(0, dtype=torch.float32, device=device)
        self._scale = math.log2(math.e) / math.sqrt(model.head_dim)  # the kernels' exponent is base two
        self.facts: dict[str, str | int | float | None] = {}

    def write(self, layer: Layer, slot_mapping: Tensor, keys: Tensor, values: Tensor) -> None:
        """Store K and V of some tokens in one layer; see ``KVCache.write``."""
        num_tokens, num_kv_heads, head_dim = keys.shape
        self._kernels.write[(num_tokens, ceil_div(num_kv_heads * head_dim, heuristics.WRITE_ELEMENTS))](
            *layer,
            keys.contiguous(),
            values.contiguous(),
            slot_mapping,
            NUM_KV_HEADS=num_kv_heads,
            HEAD_DIM=head_dim,
            BLOCK_ELEMENTS=heuristics.WRITE_ELEMENTS,
            **self._layout.constants,
        )

    def plan(self, host_lens: NDArray[np.int32]) -> LaunchPlan:
        """How to launch on sequences of these lengths, with the tile chosen last."""
        return self.plan_with(self.tile, host_lens)

    def tune(self, query: Tensor, layer: Layer, rows: Rows) -> LaunchPlan:
        """Compile, time every tile in contention and keep the fastest; returns the batch's new plan."""
        plans = {tile: self.plan_with(tile, rows.host_lens) for tile in self.tiles}
        self.tile = fastest(
            {tile: partial(self.attend, query, layer, rows, plan) for tile, plan in plans.items()}, self._device
        )
        self.facts = {
            "num_splits": plans[self.tile].splits.num_splits,
            "block_tokens": self.tile.block_tokens,
            "num_warps": self.tile.num_warps,
            "num_stages": self.tile.num_stages,
        }
        return plans[self.tile]

    def attend(self, query: Tensor, layer: Layer, rows: Rows, plan: LaunchPlan) -> Tensor:
        """Attention of one new token per sequence over one layer; see ``KVCache.decode``."""
        query = query.contiguous()
        out = torch.empty_like(query)
        num_seqs, num_query_heads, head_dim = query.shape
        num_splits, split_tokens = plan.splits.num_splits, plan.splits.split_tokens
        window = self._model.sliding_window or 0
        self._kernels.decode[(num_seqs * self._model.num_kv_heads, num_splits)](
            out if plan.parts is None else plan.parts,
            plan.lse,
            query,
            *layer,
            rows.table,
            rows.seq_lens,
            rows.table.stride(0),
            split_tokens,
            self._scale,
            NUM_KV_HEADS=self._model.num_kv_heads,
            GROUP_SIZE=self._model.group_size,
            HEAD_DIM=head_dim,
            WINDOW=window,
            SOFT_CAP=self._model.soft_cap or 0.0,
            BLOCK_GROUP=plan.tile.block_group,
            BLOCK_DIM=plan.tile.block_dim,
            BLOCK_TOKENS=plan.tile.block_tokens,
            NUM_STAGES=plan.tile.num_stages,
            num_warps=plan.tile.num_warps,
            **self._layout.constants,
        )
        if plan.parts is not None:
            self._kernels.merge[(num_seqs * num_query_heads,)](
                out,
                plan.parts,
                plan.lse,
                rows.seq_lens,
                num_splits,
                split_tokens,
                NUM_QUERY_HEADS=num_query_heads,
                HEAD_DIM=head_dim,
                BLOCK_DIM=plan.tile.block_dim,
                WINDOW=window,
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
            DTYPE_BYTES[self._model.dtype], self._model.stored_bytes, self._target.capability
        )
        return heuristics.choose_splits(
            num_seqs=len(host_lens),
            num_kv_heads=self._model.num_kv_heads,
            max_seq_len=longest,
            num_tokens=int(read.sum(dtype=np.int64)),
            block_tokens=tile.block_tokens,
            slots=self._target.multiprocessors * programs,
        )

    def _reserve(self, *sizes: int) -> Sequence[Tensor]:
        """Tensors of those many elements in one workspace that only grows, shared by all batches.

        Sharing is safe: the parts of a step are merged before the next step begins.
        """
        if self._workspace.numel() < sum(sizes):
            self._workspace = torch.empty(sum(sizes), dtype=torch.float32, device=self._device)
        tensors: Sequence[Tensor] = self._workspace[: sum(sizes)].split(sizes)
        return tensors


def _tokens_read(host_lens: NDArray[np.int32], window: int | None, block_tokens: int) -> NDArray[np.int32]:
    """Tokens from the first tile that a window touches to the end, as ``impls.kernels.window`` has it."""
    if window is None:
        return host_lens
    skipped: NDArray[np.int32] = np.maximum(host_lens - window, 0) // block_tokens * block_tokens
    return host_lens - skipped
