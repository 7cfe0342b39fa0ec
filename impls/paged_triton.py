"""The paged cache with our own Triton kernels: flash-decoding that reads pages where they lie."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from impls.interface import Policy, Unsupported
from impls.kernels import heuristics
from impls.kernels.heuristics import Splits, Tile
from impls.kernels.support import TILE_OPTIONS, check_shape, describe_device, load_kernels, tiles_for
from impls.page_table import PageTable, build_page_table, unique_live_tokens
from impls.paged_batch import PagedBatch, to_device
from impls.policies import PagePool
from impls.spec import DTYPE_BYTES, ModelSpec, ceil_div
from impls.storage import check_options, positive_option
from impls.tuning import fastest


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


@dataclass(kw_only=True)
class TritonBatch:
    """One decode step's metadata (``impls.interface.Batch``): the page table, and how to launch on it."""

    paged: PagedBatch
    plan: LaunchPlan

    @property
    def slot_mapping(self) -> Tensor:
        """int64 ``[num_seqs]``, the slot of each sequence's newest token."""
        return self.paged.slot_mapping

    @property
    def seq_lens(self) -> Tensor:
        """int32 ``[num_seqs]``, the newest token included."""
        return self.paged.seq_lens

    @property
    def metadata_bytes(self) -> int:
        """Device bytes of the page table, the lengths and the slot mapping."""
        return self.paged.metadata_bytes


class PagedTriton:
    """KV cache over a pool of pages, ``[num_pages, page_size, num_kv_heads, head_dim]`` per layer.

    Args:
        model: shapes and dtype.
        policy: a ``PagePool``.
        device: where the storage lies: a CUDA device, or any under Triton's interpreter.
        num_layers: layers that get storage.
        options: ``block_tokens``, ``num_warps`` and ``num_stages`` of the decode kernel, which
            otherwise ``tune`` chooses; ``num_splits`` instead of the heuristic's.

    Raises:
        Unsupported: there is no Triton, or this device or shape cannot be served.
        ValueError: an unknown option, or one that is out of range.
    """

    def __init__(
        self, model: ModelSpec, policy: Policy, *, device: str, num_layers: int, options: Mapping[str, object]
    ) -> None:
        check_options(options, (*TILE_OPTIONS, "num_splits"))
        if not isinstance(policy, PagePool):
            raise Unsupported(f"paged_triton stands on a page pool, not on {type(policy).__name__}")
        check_shape(model)
        self.policy: PagePool = policy
        self._model = model
        self._device = torch.device(device)
        self._kernels = load_kernels()
        self._launch_device = describe_device(self._device, are_interpreted=self._kernels.are_interpreted)
        self._num_splits = positive_option(options, "num_splits", None)
        tiles = tiles_for(model, options)
        self._tiles = tiles[:1] if self._kernels.are_interpreted else tiles  # an interpreter's time says nothing
        self._tile = self._tiles[0]
        shape = (policy.num_pages, policy.page_size, model.num_kv_heads, model.head_dim)
        dtype: torch.dtype = getattr(torch, model.dtype)
        self._tensors = [torch.empty(shape, dtype=dtype, device=self._device) for _ in range(2 * num_layers)]
        self._num_layers = num_layers
        self._cache_shape = _cache_shape(self._tensors[0])
        self._workspace = torch.empty(0, dtype=torch.float32, device=self._device)
        self._scale = math.log2(math.e) / math.sqrt(model.head_dim)  # the kernels' exponent is base two
        self._details: dict[str, str | int | float | None] = {"sdpa_backend": None, "bytes_read": None}

    @property
    def tensors(self) -> Sequence[Tensor]:
        """``[num_pages, page_size, num_kv_heads, head_dim]`` each: K of each layer, then V of each."""
        return self._tensors

    @property
    def storage_bytes(self) -> int:
        """Bytes that the K and V tensors really take."""
        return sum(tensor.nbytes for tensor in self._tensors)

    def write(self, layer: int, slot_mapping: Tensor, keys: Tensor, values: Tensor) -> None:
        """Store K and V of some tokens; see ``KVCache.write``."""
        num_tokens, num_kv_heads, head_dim = keys.shape
        self._kernels.write[(num_tokens, ceil_div(num_kv_heads * head_dim, heuristics.WRITE_ELEMENTS))](
            self._tensors[layer],
            self._tensors[layer + self._num_layers],
            keys.contiguous(),
            values.contiguous(),
            slot_mapping,
            NUM_KV_HEADS=num_kv_heads,
            BLOCK_ELEMENTS=heuristics.WRITE_ELEMENTS,
            **self._cache_shape,
        )

    def prepare(self, seq_ids: Sequence[int]) -> TritonBatch:
        """Look up the pages of a batch and plan how to launch on them; see ``KVCache.prepare``."""
        table = build_page_table(self.policy, seq_ids)
        return TritonBatch(paged=to_device(table, self._device), plan=self._plan(table, self._tile))

    def tune(self, query: Tensor, batch: TritonBatch) -> None:
        """Compile, time every tile in contention and keep the fastest; the batch is planned anew."""
        plans = {tile: self._plan(batch.paged.host, tile) for tile in self._tiles}
        self._tile = fastest(
            {tile: partial(self._attend, 0, query, batch.paged, plan) for tile, plan in plans.items()}, self._device
        )
        batch.plan = plans[self._tile]
        table = batch.paged.host
        live_bytes = unique_live_tokens(table) * self._model.token_bytes_per_layer
        self._details = {
            "sdpa_backend": None,
            "bytes_read": live_bytes + 2 * query.nbytes + table.page_table.nbytes,
            "num_splits": batch.plan.splits.num_splits,
            "block_tokens": self._tile.block_tokens,
            "num_warps": self._tile.num_warps,
            "num_stages": self._tile.num_stages,
        }

    def decode(self, layer: int, query: Tensor, batch: TritonBatch) -> Tensor:
        """Attention of one new token per sequence; see ``KVCache.decode``."""
        return self._attend(layer, query, batch.paged, batch.plan)

    def details(self) -> Mapping[str, str | int | float | None]:
        """Facts about the last ``tune``: ``bytes_read``, and the tile and splits that it chose."""
        return dict(self._details)

    def _plan(self, table: PageTable, tile: Tile) -> LaunchPlan:
        splits = self._splits(table, tile)
        if splits.num_splits == 1:
            return LaunchPlan(tile=tile, splits=splits, parts=None, lse=None)
        rows = len(table.seq_lens) * self._model.num_query_heads * splits.num_splits
        parts, lse = self._reserve(rows * self._model.head_dim, rows)
        return LaunchPlan(tile=tile, splits=splits, parts=parts, lse=lse)

    def _splits(self, table: PageTable, tile: Tile) -> Splits:
        if self._num_splits is not None:
            return heuristics.even_splits(
                self._num_splits, max_seq_len=table.max_seq_len, block_tokens=tile.block_tokens
            )
        device = self._launch_device
        return heuristics.choose_splits(
            num_seqs=len(table.seq_lens),
            num_kv_heads=self._model.num_kv_heads,
            max_seq_len=table.max_seq_len,
            num_tokens=table.num_tokens,
            block_tokens=tile.block_tokens,
            slots=device.multiprocessors * tile.programs_per_sm(DTYPE_BYTES[self._model.dtype], device.capability),
        )

    def _reserve(self, *sizes: int) -> Sequence[Tensor]:
        """Tensors of those many elements in one workspace that only grows, shared by all batches.

        Sharing is safe: the parts of a step are merged before the next step begins.
        """
        if self._workspace.numel() < sum(sizes):
            self._workspace = torch.empty(sum(sizes), dtype=torch.float32, device=self._device)
        tensors: Sequence[Tensor] = self._workspace[: sum(sizes)].split(sizes)
        return tensors

    def _attend(self, layer: int, query: Tensor, paged: PagedBatch, plan: LaunchPlan) -> Tensor:
        query = query.contiguous()
        out = torch.empty_like(query)
        num_seqs, num_query_heads, head_dim = query.shape
        num_splits, split_tokens = plan.splits.num_splits, plan.splits.split_tokens
        self._kernels.decode[(num_seqs * self._model.num_kv_heads, num_splits)](
            out if plan.parts is None else plan.parts,
            plan.lse,
            query,
            self._tensors[layer],
            self._tensors[layer + self._num_layers],
            paged.page_table,
            paged.seq_lens,
            paged.page_table.stride(0),
            split_tokens,
            self._scale,
            NUM_KV_HEADS=self._model.num_kv_heads,
            GROUP_SIZE=self._model.group_size,
            BLOCK_GROUP=plan.tile.block_group,
            BLOCK_DIM=plan.tile.block_dim,
            BLOCK_TOKENS=plan.tile.block_tokens,
            NUM_STAGES=plan.tile.num_stages,
            num_warps=plan.tile.num_warps,
            **self._cache_shape,
        )
        if plan.parts is not None:
            self._kernels.merge[(num_seqs * num_query_heads,)](
                out,
                plan.parts,
                plan.lse,
                paged.seq_lens,
                num_splits,
                split_tokens,
                NUM_QUERY_HEADS=num_query_heads,
                HEAD_DIM=head_dim,
                BLOCK_DIM=plan.tile.block_dim,
                BLOCK_SPLITS=heuristics.MERGE_SPLITS,
            )
        return out


def _cache_shape(cache: Tensor) -> dict[str, int]:
    """Compile-time constants of the kernels that describe ``[num_pages, page_size, num_kv_heads, head_dim]``."""
    return {
        "HEAD_DIM": cache.shape[3],
        "PAGE_SIZE": cache.shape[1],
        "PAGE_STRIDE": cache.stride(0),
        "TOKEN_STRIDE": cache.stride(1),
        "HEAD_STRIDE": cache.stride(2),
    }
