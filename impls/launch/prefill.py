"""Launches the prefill kernel: attention of newest tokens whose K and V are in the cache already."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from impls.interface import Policy
from impls.kernels import heuristics
from impls.launch.setup import Layer, Rows, Setup, Storage
from impls.launch.work_list import build_query_tiles
from impls.spec import DTYPE_BYTES, ModelSpec
from impls.storage.newest_tokens import newest_slots


@dataclass(frozen=True, kw_only=True)
class Queries:
    """The query tokens of a batch: the newest tokens of each sequence.

    Attributes:
        tiles: int32 ``[num_tiles, 2]``, the work list. See ``build_query_tiles``.
        starts: int32 ``[num_seqs + 1]``, where each sequence's queries begin. The last is their number.
        max_queries: queries of the sequence that has the most.
        tree: int8 ``[num_queries, max_queries]``: whether a query token sees each query token of its
            sequence. Tokens before them are seen by all. ``None``: attention is causal.
    """

    tiles: Tensor
    starts: Tensor
    max_queries: int
    tree: Tensor | None = None

    @classmethod
    def of(cls, setup: Setup, rows: Rows, num_queries: Sequence[int]) -> Queries:
        """Return the newest ``num_queries`` tokens of each sequence of ``rows``."""
        model, device = setup.model, setup.device
        tiles = build_query_tiles(num_queries, rows.host_lens, model.group_size, _tile(model).block_rows)
        starts = np.cumsum([0, *num_queries], dtype=np.int32)
        return cls(
            tiles=torch.from_numpy(tiles).to(device),
            starts=torch.from_numpy(starts).to(device),
            max_queries=max(num_queries),
        )

    @classmethod
    def of_trees(cls, setup: Setup, rows: Rows, trees: Sequence[Tensor]) -> Queries:
        """Return the newest tokens of each sequence of ``rows`` as trees.

        Args:
            setup: the model and the device.
            rows: the sequences.
            trees: per sequence bool ``[num_queries, num_queries]``. See ``ExtendedKVCache.prepare_tree``.

        Raises:
            ValueError: a mask is not square, or shows a token what is not itself or before it.
        """
        for index, tree in enumerate(trees):
            _check_tree(index, tree)
        plain = cls.of(setup, rows, [len(tree) for tree in trees])
        padded = [torch.nn.functional.pad(tree.to(torch.int8), (0, plain.max_queries - len(tree))) for tree in trees]
        return replace(plain, tree=torch.cat(padded).to(setup.device))


@dataclass(frozen=True, kw_only=True)
class TritonPrefillBatch:
    """One prefill step's metadata (``impls.interface.PrefillBatch``)."""

    slot_mapping: Tensor
    rows: Rows
    queries: Queries
    scales_bytes: int

    @property
    def metadata_bytes(self) -> int:
        """Device bytes of the tensors, and of one layer's scales where the cache is quantised."""
        queries = self.queries
        tensors = (self.slot_mapping, self.rows.table, self.rows.seq_lens, queries.tiles, queries.starts, queries.tree)
        return sum(tensor.nbytes for tensor in tensors if tensor is not None) + self.scales_bytes

    @classmethod
    def of(
        cls,
        setup: Setup,
        policy: Policy,
        seq_ids: Sequence[int],
        num_queries: Sequence[int],
        rows: Rows,
        scales_bytes: int,
        trees: Sequence[Tensor] | None = None,
    ) -> TritonPrefillBatch:
        """Return the newest tokens of the sequences of ``rows``, causal or as trees.

        Raises:
            ValueError: there is not one number per sequence, from 1 to its length, or a tree is bad.
        """
        slots = newest_slots(policy, seq_ids, num_queries)
        return cls(
            slot_mapping=torch.from_numpy(slots).to(setup.device),
            rows=rows,
            queries=Queries.of(setup, rows, num_queries) if trees is None else Queries.of_trees(setup, rows, trees),
            scales_bytes=scales_bytes,
        )


def _tile(model: ModelSpec) -> heuristics.PrefillTile:
    return heuristics.prefill_tile(head_dim=model.head_dim, element_bytes=DTYPE_BYTES[model.dtype])


def prefill(setup: Setup, query: Tensor, layer: Layer, rows: Rows, queries: Queries) -> Tensor:
    """Compute attention of each sequence's newest tokens over one layer. See ``PrefillKVCache.prefill``."""
    model = setup.model
    tile = _tile(model)
    query = query.contiguous()
    out = torch.empty_like(query)
    setup.kernels.prefill[(len(queries.tiles) * model.num_kv_heads,)](
        out,
        query,
        *layer,
        rows.table,
        rows.seq_lens,
        queries.starts,
        queries.tiles,
        queries.tree,
        rows.table.stride(0),
        queries.max_queries,
        setup.scale,
        BLOCK_ROWS=tile.block_rows,
        BLOCK_DIM=tile.block_dim,
        BLOCK_TOKENS=tile.block_tokens,
        NUM_STAGES=tile.num_stages,
        num_warps=tile.num_warps,
        **setup.constants,
    )
    return out


def _check_tree(index: int, tree: Tensor) -> None:
    if tree.dtype != torch.bool or tree.dim() != 2 or tree.shape[0] != tree.shape[1] or not len(tree):
        raise ValueError(f"trees[{index}] is {tree.dtype} {tuple(tree.shape)}; it must be a square of bools")
    if not bool(tree.diagonal().all()) or bool(tree.triu(1).any()):
        raise ValueError(f"trees[{index}] must show every token itself, and none after it")


class PrefillsWithTriton:
    """Implements ``PrefillKVCache`` for a cache that our kernels read, without ``prepare_prefill``."""

    _setup: Setup
    _storage: Storage
    _details: dict[str, str | int | float | None]

    def tune_prefill(self, query: Tensor, batch: TritonPrefillBatch) -> None:
        """Compile the only tile. See ``PrefillKVCache.tune_prefill``."""
        self.prefill(0, query, batch)
        tile = _tile(self._setup.model)
        choice = f"{tile.block_rows} rows x {tile.block_tokens} tokens, {tile.num_warps} warps (the only one)"
        self._details = {"sdpa_backend": None, "bytes_read": None, "kernel_choice": choice}

    def prefill(self, layer: int, query: Tensor, batch: TritonPrefillBatch) -> Tensor:
        """Compute attention of each sequence's newest tokens. See ``PrefillKVCache.prefill``."""
        return prefill(self._setup, query, self._storage.layer(layer), batch.rows, batch.queries)
