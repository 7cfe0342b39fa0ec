"""The paged cache with our own Triton kernels: flash-decoding that reads pages in place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from impls.interface import Policy
from impls.kernels.support import KernelCache
from impls.launch.decoder import DECODER_OPTIONS, TritonDecoder
from impls.launch.extended import ExtendsWithTriton
from impls.launch.plan import LaunchPlan
from impls.launch.prefill import PrefillsWithTriton, TritonPrefillBatch
from impls.launch.setup import Rows, Setup, Storage
from impls.policies import PagePool, require_pages
from impls.spec import ModelSpec
from impls.storage.page_moves import MOVES, MovesPages, PageMover
from impls.storage.page_table import build_page_table, check_shared, unique_live_tokens
from impls.storage.paged_batch import PagedBatch, PageTableBatch, to_device
from impls.storage.slots import check_options, choice_option

LAYOUTS = ("NHD", "HND")


@dataclass(kw_only=True)
class TritonBatch(PageTableBatch):
    """Metadata of one decode step (``impls.interface.Batch``): the page table and the launch plan."""

    rows: Rows
    plan: LaunchPlan
    scales_bytes: int

    @property
    def metadata_bytes(self) -> int:
        """Device bytes of the page table, lengths, slot mapping, work list and one layer's scales."""
        return self.paged.metadata_bytes + self.plan.metadata_bytes + self.scales_bytes


class PagedTriton(PrefillsWithTriton, ExtendsWithTriton, MovesPages):
    """KV cache over a pool of pages. Attention by our Triton kernels, which read pages in place.

    Args:
        model: shapes and dtype.
        policy: a ``PagePool``.
        device: device of the storage. A CUDA device, or any device with Triton's interpreter.
        num_layers: layers that get storage.
        options: those of ``TritonDecoder``, and two others. ``kv_layout`` is ``NHD`` (the default, a page is
            ``[page_size, num_kv_heads, head_dim]``) or ``HND`` (``[num_kv_heads, page_size, head_dim]``).
            ``page_moves`` is described in ``PageMover``.

    Raises:
        Unsupported: Triton is not installed, or the kernels do not support this device or shape.
        ValueError: an unknown option, or an option out of range.
    """

    def __init__(
        self, model: ModelSpec, policy: Policy, *, device: str, num_layers: int, options: Mapping[str, object]
    ) -> None:
        check_options(options, (*DECODER_OPTIONS, "kv_layout", "page_moves"))
        kv_layout = choice_option(options, "kv_layout", LAYOUTS)
        self.policy: PagePool = require_pages(policy, "paged_triton")
        self._model = model
        self._device = torch.device(device)
        shape = (self.policy.num_pages, self.policy.page_size, model.num_kv_heads, model.head_dim)
        self._setup = Setup.of(model, "paged_triton", self._device, KernelCache.of_pages(shape, kv_layout))
        self.decoder = TritonDecoder(self._setup, options)
        make = partial(_pages, shape, kv_layout, getattr(torch, model.stored_dtype), self._device)
        self._storage = Storage(model, make, num_layers, self._device)
        way = choice_option(options, "page_moves", MOVES)
        self._mover = PageMover(self.tensors, self.policy.host_pages, way=way, at_once=self._setup.copy_pages)
        self._details = {"sdpa_backend": None, "bytes_read": None}

    @property
    def tensors(self) -> Sequence[Tensor]:
        """``[num_pages, page_size, num_kv_heads, head_dim]`` each, of any strides: K of each layer, then all V."""
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

    def prepare(self, seq_ids: Sequence[int]) -> TritonBatch:
        """Return the page table of a batch and its launch plan (see ``KVCache.prepare``)."""
        paged = to_device(build_page_table(self.policy, seq_ids), self._device)
        return TritonBatch(
            paged=paged,
            rows=_rows(paged),
            plan=self.decoder.plan(paged.host.seq_lens),
            scales_bytes=self._storage.scales_bytes,
        )

    def tune(self, query: Tensor, batch: TritonBatch) -> None:
        """Compile and time every choice, keep the fastest, and plan the batch again."""
        batch.plan = self.decoder.tune(query, self._storage.layer(0), batch.rows)
        table = batch.paged.host
        live_bytes = unique_live_tokens(table, self._model.sliding_window) * self._model.token_bytes_per_layer
        self._details = {
            "sdpa_backend": None,
            "bytes_read": live_bytes + 2 * query.nbytes + table.page_table.nbytes,
            **self.decoder.facts,
        }

    def decode(self, layer: int, query: Tensor, batch: TritonBatch) -> Tensor:
        """Return attention of one new token per sequence (see ``KVCache.decode``)."""
        return self.decoder.attend(query, self._storage.layer(layer), batch.rows, batch.plan)

    def prepare_cascade(self, seq_ids: Sequence[int], shared_tokens: int) -> TritonBatch:
        """Return the page table of a batch that shares a prefix (see ``ExtendedKVCache.prepare_cascade``)."""
        host = build_page_table(self.policy, seq_ids)
        check_shared(host, shared_tokens)
        paged = to_device(host, self._device)
        return TritonBatch(
            paged=paged,
            rows=_rows(paged),
            plan=self.decoder.plan_cascade(host.seq_lens, shared_tokens),
            scales_bytes=self._storage.scales_bytes,
        )

    def prepare_prefill(self, seq_ids: Sequence[int], num_queries: Sequence[int]) -> TritonPrefillBatch:
        """Return the page table of a batch of query tokens (see ``PrefillKVCache.prepare_prefill``)."""
        rows = self._find(seq_ids)
        scales_bytes = self._storage.scales_bytes
        return TritonPrefillBatch.of(self._setup, self.policy, seq_ids, num_queries, rows, scales_bytes)

    def details(self) -> Mapping[str, str | int | float | None]:
        """Return facts about the last ``tune`` (``bytes_read``, tile and splits), and ``page_moves``."""
        return {**self._details, "page_moves": self._mover.way}

    def _find(self, seq_ids: Sequence[int]) -> Rows:
        return _rows(to_device(build_page_table(self.policy, seq_ids), self._device))


def _rows(paged: PagedBatch) -> Rows:
    return Rows(table=paged.page_table, seq_lens=paged.seq_lens, host_lens=paged.host.seq_lens)


def _pages(shape: tuple[int, int, int, int], kv_layout: str, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return ``[num_pages, page_size, num_kv_heads, head_dim]``. HND is a view of pages with the heads first."""
    if kv_layout == "NHD":
        return torch.empty(shape, dtype=dtype, device=device)
    num_pages, page_size, num_kv_heads, head_dim = shape
    pages = torch.empty((num_pages, num_kv_heads, page_size, head_dim), dtype=dtype, device=device)
    return pages.transpose(1, 2)
