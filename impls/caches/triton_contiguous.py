"""The control: our Triton kernels over contiguous regions, with computed addresses and no page table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from impls.interface import Policy, Unsupported
from impls.kernels.support import KernelCache
from impls.launch.decoder import DECODER_OPTIONS, TritonDecoder
from impls.launch.extended import ExtendsWithTriton
from impls.launch.plan import LaunchPlan
from impls.launch.prefill import PrefillsWithTriton, TritonPrefillBatch
from impls.launch.setup import Rows, Setup, Storage
from impls.policies import Reserved, require_regions
from impls.spec import ModelSpec
from impls.storage.slots import check_options


@dataclass(kw_only=True)
class RegionBatch:
    """Metadata of one decode step (``impls.interface.Batch``).

    Attributes:
        slot_mapping: int64 ``[num_seqs]``, the slot of the newest token of each sequence.
        rows: first slot and length of each sequence.
        plan: the launch plan.
        scales_bytes: device bytes of the scales of one layer, if the cache is quantised.
    """

    slot_mapping: Tensor
    rows: Rows
    plan: LaunchPlan
    scales_bytes: int

    @property
    def seq_lens(self) -> Tensor:
        """int32 ``[num_seqs]``, tokens per sequence, including the newest."""
        return self.rows.seq_lens

    @property
    def metadata_bytes(self) -> int:
        """Device bytes of the tensors."""
        tensors = (self.slot_mapping, self.rows.table, self.seq_lens)
        return sum(tensor.nbytes for tensor in tensors) + self.plan.metadata_bytes + self.scales_bytes


class TritonContiguous(PrefillsWithTriton, ExtendsWithTriton):
    """KV cache over reserved regions. Attention by the kernels of ``paged_triton``, without a page table.

    The difference in time to ``paged_triton`` is the cost of looking up pages and of their order in memory.

    Args:
        model: shapes and dtype.
        policy: a ``Reserved`` policy.
        device: device of the storage. A CUDA device, or any device with Triton's interpreter.
        num_layers: layers that get storage.
        options: those of ``TritonDecoder``.

    Raises:
        Unsupported: Triton is not installed, or the kernels do not support this device or shape.
        ValueError: an unknown option, or an option out of range.
    """

    def __init__(
        self, model: ModelSpec, policy: Policy, *, device: str, num_layers: int, options: Mapping[str, object]
    ) -> None:
        check_options(options, DECODER_OPTIONS)
        self.policy: Reserved = require_regions(policy, "triton_contiguous")
        self._model = model
        self._device = torch.device(device)
        self._setup = Setup.of(model, "triton_contiguous", self._device, KernelCache.of_slots(model))
        self.decoder = TritonDecoder(self._setup, options)
        shape = (self.policy.num_slots, model.num_kv_heads, model.head_dim)
        dtype: torch.dtype = getattr(torch, model.stored_dtype)
        make = partial(torch.empty, shape, dtype=dtype, device=self._device)
        self._storage = Storage(model, make, num_layers, self._device)
        self._details = {"sdpa_backend": None, "bytes_read": None}

    @property
    def tensors(self) -> Sequence[Tensor]:
        """``[num_slots, num_kv_heads, head_dim]`` each: K of each layer, then V of each layer."""
        return self._storage.tensors

    @property
    def storage_bytes(self) -> int:
        """Bytes of the K and V tensors as allocated."""
        return self._storage.nbytes

    def set_scales(self, layer: int, k_scales: Tensor, v_scales: Tensor) -> None:
        """Set the scales of K and V (see ``QuantisedKVCache.set_scales``)."""
        self._storage.set_scales(layer, k_scales, v_scales)

    def write(self, layer: int, slot_mapping: Tensor, keys: Tensor, values: Tensor) -> None:
        """Store K and V of some tokens (see ``KVCache.write``)."""
        self._setup.write(self._storage.layer(layer), slot_mapping, keys, values)

    def prepare(self, seq_ids: Sequence[int]) -> RegionBatch:
        """Return the regions of a batch and its launch plan (see ``KVCache.prepare``)."""
        newest = [self.policy.region(seq_id)[0] + self.policy.seq_len(seq_id) - 1 for seq_id in seq_ids]
        rows = self._find(seq_ids)
        return RegionBatch(
            slot_mapping=torch.tensor(newest, dtype=torch.int64).to(self._device),
            rows=rows,
            plan=self.decoder.plan(rows.host_lens),
            scales_bytes=self._storage.scales_bytes,
        )

    def tune(self, query: Tensor, batch: RegionBatch) -> None:
        """Compile and time every choice, keep the fastest, and plan the batch again."""
        batch.plan = self.decoder.tune(query, self._storage.layer(0), batch.rows)
        window = self._model.sliding_window
        lens = batch.rows.host_lens
        tokens = int((lens if window is None else np.minimum(lens, window)).sum(dtype=np.int64))
        self._details = {
            "sdpa_backend": None,
            "bytes_read": tokens * self._model.token_bytes_per_layer + 2 * query.nbytes + batch.rows.table.nbytes,
            **self.decoder.facts,
        }

    def decode(self, layer: int, query: Tensor, batch: RegionBatch) -> Tensor:
        """Return attention of one new token per sequence (see ``KVCache.decode``)."""
        return self.decoder.attend(query, self._storage.layer(layer), batch.rows, batch.plan)

    def prepare_cascade(self, seq_ids: Sequence[int], shared_tokens: int) -> RegionBatch:
        """Raise ``Unsupported``, because regions share no slots (see ``ExtendedKVCache.prepare_cascade``)."""
        raise Unsupported("triton_contiguous cannot share a prefix. Use impl=paged_triton")

    def prepare_prefill(self, seq_ids: Sequence[int], num_queries: Sequence[int]) -> TritonPrefillBatch:
        """Return the regions of a batch of query tokens (see ``PrefillKVCache.prepare_prefill``)."""
        rows = self._find(seq_ids)
        scales_bytes = self._storage.scales_bytes
        return TritonPrefillBatch.of(self._setup, self.policy, seq_ids, num_queries, rows, scales_bytes)

    def details(self) -> Mapping[str, str | int | float | None]:
        """Return facts about the last ``tune``: ``bytes_read``, and the chosen tile and splits."""
        return dict(self._details)

    def _find(self, seq_ids: Sequence[int]) -> Rows:
        first_slots = np.array([self.policy.region(seq_id)[0] for seq_id in seq_ids], dtype=np.int64)
        lens = np.array([self.policy.seq_len(seq_id) for seq_id in seq_ids], dtype=np.int32)
        return Rows(
            table=torch.from_numpy(first_slots).to(self._device),
            seq_lens=torch.from_numpy(lens).to(self._device),
            host_lens=lens,
        )
