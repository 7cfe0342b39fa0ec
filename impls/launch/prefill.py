"""Launches the prefill kernel: causal attention of newest tokens whose K and V are in the cache already."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from impls.interface import Policy
from impls.kernels import heuristics
from impls.launch.setup import Layer, Rows, Setup, Storage
from impls.spec import DTYPE_BYTES, ModelSpec, ceil_div
from impls.storage.newest_tokens import newest_slots


@dataclass(frozen=True, kw_only=True)
class Queries:
    """Which of a batch's tokens ask: the newest of each sequence.

    Attributes:
        starts: int32 ``[num_seqs + 1]``, where each sequence's queries begin; the last is their number.
        most: queries of the sequence that has most.
    """

    starts: Tensor
    most: int

    @classmethod
    def of(cls, num_queries: Sequence[int], device: torch.device) -> Queries:
        """The newest ``num_queries`` tokens of each sequence."""
        starts = np.cumsum([0, *num_queries], dtype=np.int32)
        return cls(starts=torch.from_numpy(starts).to(device), most=max(num_queries))


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
        tensors = (self.slot_mapping, self.rows.table, self.rows.seq_lens, self.queries.starts)
        return sum(tensor.nbytes for tensor in tensors) + self.scales_bytes

    @classmethod
    def of(
        cls, policy: Policy, seq_ids: Sequence[int], num_queries: Sequence[int], rows: Rows, scales_bytes: int
    ) -> TritonPrefillBatch:
        """The newest tokens of sequences that ``rows`` finds.

        Raises:
            ValueError: there is not one number per sequence, from 1 to its length.
        """
        device = rows.seq_lens.device
        slots = newest_slots(policy, seq_ids, num_queries)
        return cls(
            slot_mapping=torch.tensor(slots, dtype=torch.int64).to(device),
            rows=rows,
            queries=Queries.of(num_queries, device),
            scales_bytes=scales_bytes,
        )


def _tile(model: ModelSpec) -> heuristics.PrefillTile:
    return heuristics.prefill_tile(head_dim=model.head_dim, element_bytes=DTYPE_BYTES[model.dtype])


def prefill(setup: Setup, query: Tensor, layer: Layer, rows: Rows, queries: Queries) -> Tensor:
    """Causal attention of each sequence's newest tokens over one layer; see ``PrefillKVCache.prefill``."""
    model = setup.model
    tile = _tile(model)
    query = query.contiguous()
    out = torch.empty_like(query)
    tiles = ceil_div(queries.most * model.group_size, tile.block_rows)
    setup.kernels.prefill[(model.num_kv_heads, tiles, len(rows.host_lens))](
        out,
        query,
        *layer,
        rows.table,
        rows.seq_lens,
        queries.starts,
        rows.table.stride(0),
        setup.scale,
        BLOCK_ROWS=tile.block_rows,
        BLOCK_DIM=tile.block_dim,
        BLOCK_TOKENS=tile.block_tokens,
        NUM_STAGES=tile.num_stages,
        num_warps=tile.num_warps,
        **setup.constants,
    )
    return out


class PrefillsWithTriton:
    """What ``PrefillKVCache`` adds, but for ``prepare_prefill``, in a cache that our kernels read."""

    _setup: Setup
    _storage: Storage
    _details: dict[str, str | int | float | None]

    def tune_prefill(self, query: Tensor, batch: TritonPrefillBatch) -> None:
        """Compile: there is one tile; see ``PrefillKVCache.tune_prefill``."""
        self.prefill(0, query, batch)
        tile = _tile(self._setup.model)
        said = f"{tile.block_rows} rows x {tile.block_tokens} tokens, {tile.num_warps} warps (the only one)"
        self._details = {"sdpa_backend": None, "bytes_read": None, "kernel_choice": said}

    def prefill(self, layer: int, query: Tensor, batch: TritonPrefillBatch) -> Tensor:
        """Causal attention of each sequence's newest tokens; see ``PrefillKVCache.prefill``."""
        return prefill(self._setup, query, self._storage.layer(layer), batch.rows, batch.queries)
