"""The paged cache in plain torch: chunks of tokens are gathered a few at a time, and their results are merged.

A gather of the whole batch writes and reads all of K and V once more. On a CPU this was 22 times slower than attention
over contiguous memory. So the sequences are cut into chunks. Each thread gathers a few chunks into a buffer that stays
in the processor's cache, and runs attention on it. The results of the chunks are merged by their log-sum-exp, as
flash-decoding merges its splits.

If a step reads enough to be worth seconds of compilation, ``tune`` also tries a compiled loop that reads K and V in
place (``impls.cpu.fused_chunks``). A GPU is fastest with one large call. There a chunk is a whole sequence, and all
sequences are gathered together.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import product
from typing import Final, NamedTuple

import torch
from torch import Tensor

from impls.cpu import sdpa
from impls.cpu.chunk_merge import merge
from impls.cpu.fused_chunks import FusedChunks
from impls.cpu.gather_plan import GatherPlan, Piece, make_plan
from impls.cpu.sdpa_prefill import PrefillsWithSdpa, PromptAttention, TorchPrefillBatch
from impls.cpu.token_chunks import cut
from impls.cpu.workers import Workers
from impls.interface import Policy, Unsupported
from impls.launch.tuning import fastest
from impls.policies import require_pages
from impls.spec import ModelSpec
from impls.storage.page_moves import MOVES, MovesPages, PageMover, copy_gathered
from impls.storage.page_table import PageTable, build_page_table, unique_live_tokens
from impls.storage.paged_batch import PageTableBatch, to_device
from impls.storage.slots import SlotStorage, check_options, check_plain, choice_option, flag_option, positive_option

CHUNK_TOKENS: Final = (256, 64)
"""Chunk lengths that ``tune`` tries on a CPU. Long chunks need less merging. Short chunks more often fit one page."""
GATHER_BYTES: Final = 4 << 20
"""Bytes of K and V that a thread gathers at once, well below its share of the processor's cache."""
FUSED: Final = "compiled"
FUSED_CHUNK_TOKENS: Final = 64
FUSED_MIN_BYTES: Final = 64 << 20
"""Minimum bytes of K and V that a step must read before compilation is tried. It takes seconds per process."""
GROUPS_PER_THREAD: Final = 4
"""Groups of chunks per thread. With several groups, no thread waits long for the last one."""


class GatherChoice(NamedTuple):
    """One way to compute a batch.

    Attributes:
        chunk_tokens: tokens of a chunk. ``None`` for whole sequences, all in one call.
        backend: back-end of SDPA (see ``impls.cpu.sdpa``), or ``FUSED``.
        num_rows: query rows per KV head (see ``impls.cpu.sdpa.row_counts``).
    """

    chunk_tokens: int | None
    backend: str
    num_rows: int


@dataclass(kw_only=True)
class TorchBatch(PageTableBatch):
    """Metadata of one decode step (``impls.interface.Batch``): the page table and a plan for reading the pages."""

    plan: GatherPlan

    @property
    def metadata_bytes(self) -> int:
        """Device bytes of the page table and the plan."""
        return self.paged.metadata_bytes + self.plan.nbytes


class PagedTorch(PrefillsWithSdpa, MovesPages):
    """KV cache over a pool of pages. Attention in plain torch, over chunks of gathered pages.

    Args:
        model: shapes and dtype.
        policy: a ``PagePool``.
        device: device of the storage.
        num_layers: layers that get storage.
        options: ``chunk_tokens`` is a chunk length that replaces those that ``tune`` tries (on a CPU only).
            ``gather_bytes`` replaces ``GATHER_BYTES``. ``compile`` (on a CPU only) is ``true`` for the compiled loop
            alone and ``false`` for never. ``page_moves`` is described in ``PageMover``.

    Raises:
        Unsupported: the policy is not paged, the attention of the model is not plain, or an option is for a CPU only.
        ValueError: an unknown option, or an option out of range.
    """

    def __init__(
        self, model: ModelSpec, policy: Policy, *, device: str, num_layers: int, options: Mapping[str, object]
    ) -> None:
        check_options(options, ("chunk_tokens", "gather_bytes", "compile", "page_moves"))
        check_plain(model, "paged_torch")
        self.policy = require_pages(policy, "paged_torch")
        self._model = model
        self._device = torch.device(device)
        self._storage = SlotStorage(model, self.policy.num_pages * self.policy.page_size, num_layers, self._device)
        self._prompts = PromptAttention(self._storage, self._device)
        way = choice_option(options, "page_moves", MOVES)
        self._mover = PageMover(self.tensors, self.policy.host_pages, way=way, at_once=copy_gathered)
        self._group_tokens = positive_option(options, "gather_bytes", GATHER_BYTES) // model.token_bytes_per_layer
        self._fused_min_bytes = self._min_fused_bytes(options)
        self._choices = self._possible_choices(positive_option(options, "chunk_tokens", None))
        self._choice = self._choices[0]
        self._details = {"sdpa_backend": None, "bytes_read": None}

    @property
    def tensors(self) -> Sequence[Tensor]:
        """``[num_pages, page_size, num_kv_heads, head_dim]`` each: K of each layer, then V of each."""
        shape = (self.policy.num_pages, self.policy.page_size, self._model.num_kv_heads, self._model.head_dim)
        return [rows.view(shape) for rows in (*self._storage.keys, *self._storage.values)]

    @property
    def storage_bytes(self) -> int:
        """Bytes of the K and V tensors as allocated."""
        return self._storage.nbytes

    def write(self, layer: int, slot_mapping: Tensor, keys: Tensor, values: Tensor) -> None:
        """Store K and V of some tokens (see ``KVCache.write``)."""
        self._storage.write(layer, slot_mapping, keys, values)

    def prepare(self, seq_ids: Sequence[int]) -> TorchBatch:
        """Return the page table of a batch and a plan for reading the pages (see ``KVCache.prepare``)."""
        table = build_page_table(self.policy, seq_ids)
        return TorchBatch(paged=to_device(table, self._device), plan=self._plan(table, self._choice))

    def tune(self, query: Tensor, batch: TorchBatch) -> None:
        """Time every chunk length and call that is possible on this device, and keep the fastest.

        The plan of ``batch`` is replaced by that of the fastest.

        Raises:
            Unsupported: no call works. The math back-end of SDPA does not count.
        """
        table = batch.paged.host
        live_bytes = unique_live_tokens(table) * self._model.token_bytes_per_layer
        plans = {choice: self._plan(table, choice) for choice in self._choices_for(live_bytes)}
        calls = {choice: partial(self._attend, choice, 0, query, plan) for choice, plan in plans.items()}
        self._choice = fastest(calls, self._device)
        batch.plan = plans[self._choice]
        is_fused = self._choice.backend == FUSED
        self._details = {
            "sdpa_backend": None if is_fused else self._choice.backend,
            "kernel_choice": f"torch {torch.__version__}, compiled" if is_fused else None,
            "chunk_tokens": self._choice.chunk_tokens,
            "query_rows": self._choice.num_rows,
            "in_place_ratio": 1.0 if is_fused else batch.plan.in_place_ratio,
            "bytes_read": live_bytes + 2 * query.nbytes + table.page_table.nbytes,
        }

    def decode(self, layer: int, query: Tensor, batch: TorchBatch) -> Tensor:
        """Return attention of one new token per sequence (see ``KVCache.decode``)."""
        return self._attend(self._choice, layer, query, batch.plan)

    def prepare_prefill(self, seq_ids: Sequence[int], num_queries: Sequence[int]) -> TorchPrefillBatch:
        """Return the slots of a batch of query tokens (see ``PrefillKVCache.prepare_prefill``)."""
        table = build_page_table(self.policy, seq_ids)
        groups = cut(table, table.max_seq_len, 1)  # one sequence per group
        plan = make_plan(groups, len(seq_ids), self._storage.keys[0].dtype, self._device)
        tokens = [plan.pieces[chunk] for chunk in plan.chunks[:, 0].tolist()]
        return self._prompts.prepare(self.policy, seq_ids, num_queries, tokens)

    def details(self) -> Mapping[str, str | int | float | None]:
        """Return facts about the last ``tune``, and ``page_moves``.

        The facts are ``sdpa_backend`` or ``kernel_choice``, ``chunk_tokens, query_rows, in_place_ratio, bytes_read``.
        ``bytes_read`` counts the bytes that must be read. It does not count that gathered bytes are written and read
        once more.
        """
        return {**self._details, "page_moves": self._mover.way}

    @cached_property
    def _workers(self) -> Workers:
        """Created at first use, because a GPU needs no workers."""
        return Workers()

    @cached_property
    def _fused(self) -> FusedChunks:
        """Created at first use, by a step that is large enough."""
        return FusedChunks()

    def _min_fused_bytes(self, options: Mapping[str, object]) -> float:
        """Return the minimum bytes that a step must read for the compiled loop to be tried.

        Raises:
            Unsupported: the options require the compiled loop, and the device is not a CPU.
        """
        is_cpu = self._device.type == "cpu"
        if not flag_option(options, "compile", True) or not is_cpu or "chunk_tokens" in options:
            if options.get("compile") and not is_cpu:
                raise Unsupported(f"impl.options.compile=true requires device=cpu (got {self._device.type})")
            return math.inf
        return 0 if options.get("compile") else FUSED_MIN_BYTES

    def _choices_for(self, live_bytes: int) -> Sequence[GatherChoice]:
        """Return the choices to time for a step that reads ``live_bytes`` of K and V."""
        if live_bytes < self._fused_min_bytes:
            return self._choices
        fused = GatherChoice(FUSED_CHUNK_TOKENS, FUSED, self._model.group_size)
        return [fused] if self._fused_min_bytes == 0 else [*self._choices, fused]

    def _possible_choices(self, chunk_tokens: int | None) -> list[GatherChoice]:
        chunks: Sequence[int | None] = CHUNK_TOKENS if chunk_tokens is None else (chunk_tokens,)
        if self._device.type != "cpu":
            if chunk_tokens is not None:
                raise Unsupported(
                    f"impl.options.chunk_tokens={chunk_tokens} requires device=cpu (got {self._device.type})"
                )
            chunks = (None,)
        row_counts = sdpa.row_counts(self._model, self._device)
        return list(map(GatherChoice._make, product(chunks, sdpa.backends_on(self._device), row_counts)))

    def _plan(self, table: PageTable, choice: GatherChoice) -> GatherPlan:
        num_seqs = len(table.seq_lens)
        if choice.chunk_tokens is None:
            groups = cut(table, table.max_seq_len, num_seqs * table.max_seq_len)
        elif choice.backend == FUSED:
            groups = cut(table, choice.chunk_tokens, (num_seqs + 1) * (table.max_seq_len + choice.chunk_tokens))
        else:
            num_groups = GROUPS_PER_THREAD * self._workers.num_threads
            groups = cut(table, choice.chunk_tokens, self._group_tokens, num_groups)
        in_place = choice.backend != FUSED
        return make_plan(groups, num_seqs, self._storage.keys[0].dtype, self._device, in_place=in_place)

    def _attend(self, choice: GatherChoice, layer: int, query: Tensor, plan: GatherPlan) -> Tensor:
        rows = sdpa.as_rows(query.index_select(0, plan.seqs), self._model.num_kv_heads, choice.num_rows)
        if choice.chunk_tokens is None:
            out = self._whole_sequences(layer, rows, plan, choice.backend)
        elif choice.backend == FUSED:
            out = self._compiled(layer, rows, plan).to(query.dtype)
        else:
            out = self._chunks(layer, rows, plan)
        return out.reshape(query.shape)

    def _whole_sequences(self, layer: int, rows: Tensor, plan: GatherPlan, backend: str) -> Tensor:
        (piece,) = plan.pieces
        keys, values = piece.read(self._storage.keys[layer]), piece.read(self._storage.values[layer])
        with sdpa.use_backend(backend):
            out = sdpa.attend(rows, keys, values, piece.mask)
        return out.index_select(0, plan.chunks[:, 0])

    def _compiled(self, layer: int, rows: Tensor, plan: GatherPlan) -> Tensor:
        (piece,) = plan.pieces
        assert isinstance(piece.slots, Tensor)  # _plan lists the slots for this choice
        keys, values = self._storage.keys[layer], self._storage.values[layer]
        outs, lses = self._fused(rows, keys, values, piece.slots, piece.mask)
        return merge(outs, lses, plan.chunks)

    def _chunks(self, layer: int, rows: Tensor, plan: GatherPlan) -> Tensor:
        keys, values = self._storage.keys[layer], self._storage.values[layer]
        num_slots, group_size = plan.gathered_slots, self._model.group_size

        def attend(work: tuple[Piece, Tensor]) -> tuple[Tensor, Tensor]:
            piece, part = work
            key_buffer, value_buffer = self._workers.buffers(num_slots, keys)
            out, lse = sdpa.attend_with_lse(
                part, piece.read(keys, key_buffer), piece.read(values, value_buffer), piece.mask
            )
            return out[:, :, :group_size], lse[:, :, :group_size]

        parts = rows.split([piece.num_chunks for piece in plan.pieces])
        outs, lses = zip(*self._workers.map(attend, zip(plan.pieces, parts, strict=True)), strict=True)
        return merge(torch.cat(outs), torch.cat(lses), plan.chunks)
