"""Launches the prefill kernel: causal attention of newest tokens whose K and V are in the cache already."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from impls.kernels import heuristics
from impls.spec import DTYPE_BYTES, ceil_div
from impls.triton_setup import Layer, Rows, Setup


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
    def of(cls, num_queries: Sequence[int], host_lens: Sequence[int], device: torch.device) -> Queries:
        """The newest ``num_queries`` tokens of sequences of these lengths.

        Raises:
            ValueError: there is not one number per sequence, from 1 to its length.
        """
        if len(num_queries) != len(host_lens):
            raise ValueError(f"num_queries has {len(num_queries)} entries; the batch has {len(host_lens)} sequences")
        for count, seq_len in zip(num_queries, host_lens, strict=True):
            if not 1 <= count <= seq_len:
                raise ValueError(f"num_queries={count} must be from 1 to {seq_len}, the sequence's length")
        starts = np.cumsum([0, *num_queries], dtype=np.int32)
        return cls(starts=torch.from_numpy(starts).to(device), most=max(num_queries))


def prefill(setup: Setup, query: Tensor, layer: Layer, rows: Rows, queries: Queries) -> Tensor:
    """Causal attention of each sequence's newest tokens over one layer; see ``PrefillKVCache.prefill``."""
    model = setup.model
    tile = heuristics.prefill_tile(head_dim=model.head_dim, element_bytes=DTYPE_BYTES[model.dtype])
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
