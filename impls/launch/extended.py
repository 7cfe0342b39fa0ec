"""The options of attention that every cache of ours on Triton kernels has. See ``ExtendedKVCache``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from impls.interface import Unsupported
from impls.launch.decoder import TritonDecoder
from impls.launch.prefill import TritonPrefillBatch
from impls.launch.setup import Rows, Setup, Storage

if TYPE_CHECKING:
    from impls.interface import Policy
    from impls.launch.plan import LaunchPlan


class PlannedBatch(Protocol):
    """A decode batch of a cache that our kernels read."""

    rows: Rows
    plan: LaunchPlan


class ExtendsWithTriton:
    """Implements ``ExtendedKVCache`` over the decoder and the storage of a cache."""

    policy: Policy
    decoder: TritonDecoder
    _setup: Setup
    _storage: Storage

    def set_sinks(self, layer: int, sinks: Tensor | None) -> None:
        """Set one layer's attention sinks. See ``ExtendedKVCache.set_sinks``."""
        self._storage.set_sinks(layer, sinks)

    def set_alibi(self, slopes: Tensor | None) -> None:
        """Set the slopes of ALiBi. See ``ExtendedKVCache.set_alibi``."""
        self._storage.set_alibi(slopes)

    def decode_with_lse(self, layer: int, query: Tensor, batch: PlannedBatch) -> tuple[Tensor, Tensor]:
        """Decode, and return the log-sum-exp, too. See ``ExtendedKVCache.decode_with_lse``."""
        lse = torch.empty(query.shape[:2], dtype=torch.float32, device=query.device)
        return self.decoder.attend(query, self._storage.layer(layer), batch.rows, batch.plan, lse), lse

    def prepare_tree(self, seq_ids: Sequence[int], trees: Sequence[Tensor]) -> TritonPrefillBatch:
        """Build the metadata of trees of drafted tokens. See ``ExtendedKVCache.prepare_tree``."""
        if self._setup.model.sliding_window is not None:
            raise Unsupported(f"a tree cannot have model.sliding_window={self._setup.model.sliding_window}")
        if self._storage.layer(0).slopes is not None:
            raise Unsupported("a tree cannot have ALiBi; call set_alibi(None) first")
        num_queries = [len(tree) for tree in trees]
        rows, scales_bytes = self._find(seq_ids), self._storage.scales_bytes
        return TritonPrefillBatch.of(self._setup, self.policy, seq_ids, num_queries, rows, scales_bytes, trees)

    def _find(self, seq_ids: Sequence[int]) -> Rows:
        """Return where each sequence's K and V are."""
        raise NotImplementedError
