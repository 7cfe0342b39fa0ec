"""The naive cache: a contiguous region of ``max_seq_len`` slots per sequence, and attention by torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import pairwise, product
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from impls.cpu import sdpa
from impls.cpu.gather_plan import Piece
from impls.cpu.sdpa_prefill import PrefillsWithSdpa, PromptAttention, TorchPrefillBatch
from impls.cpu.workers import Workers
from impls.interface import Policy
from impls.launch.tuning import fastest
from impls.policies import require_regions
from impls.spec import ModelSpec
from impls.storage.slots import SlotStorage, check_options, check_plain

PADDED = "padded"
PER_SEQUENCE = "per_sequence"
PER_THREAD = "per_thread"


class Call(NamedTuple):
    """One way to compute attention over contiguous regions.

    Attributes:
        kind: ``padded`` is one call for all sequences, padded to the longest and masked if their lengths differ.
            ``per_sequence`` is one call per sequence. ``per_thread``, on a CPU only, distributes these calls over
            threads (see ``impls.cpu.workers``).
        backend: back-end of SDPA (see ``impls.cpu.sdpa``).
        num_rows: query rows per KV head (see ``impls.cpu.sdpa.row_counts``).
    """

    kind: str
    backend: str
    num_rows: int


@dataclass(frozen=True, kw_only=True)
class Padding:
    """Data of the padded call, for a batch in adjacent regions of equal size.

    Attributes:
        first_slot: first slot of the first region.
        region_slots: slots of each region.
        max_len: tokens of the longest sequence.
        mask: ``[num_seqs, 1, 1, max_len]``, -inf past the end of a sequence. ``None`` if all are equally long.
    """

    first_slot: int
    region_slots: int
    max_len: int
    mask: Tensor | None

    def view(self, storage: Tensor, num_seqs: int) -> Tensor:
        """Return K or V of the batch as ``[num_seqs, max_len, num_kv_heads, head_dim]``."""
        regions = storage[self.first_slot : self.first_slot + num_seqs * self.region_slots]
        return regions.view(num_seqs, self.region_slots, *storage.shape[1:])[:, : self.max_len]


@dataclass(kw_only=True)
class ContiguousBatch:
    """Metadata of one decode step (``impls.interface.Batch``).

    Attributes:
        slot_mapping: int64 ``[num_seqs]``, the slot of the newest token of each sequence.
        seq_lens: int32 ``[num_seqs]``, tokens per sequence, including the newest.
        tokens: slots of the tokens of each sequence, on the host.
        padding: data of the padded call. ``None`` if that call is impossible here, or another one is faster.
    """

    slot_mapping: Tensor
    seq_lens: Tensor
    tokens: Sequence[slice]
    padding: Padding | None

    @property
    def metadata_bytes(self) -> int:
        """Device bytes of the tensors."""
        mask = None if self.padding is None else self.padding.mask
        return self.slot_mapping.nbytes + self.seq_lens.nbytes + (0 if mask is None else mask.nbytes)


class Contiguous(PrefillsWithSdpa):
    """KV cache over reserved regions, as in systems before PagedAttention. Attention by torch's SDPA.

    Section 3 of the PagedAttention paper describes such systems. With the policy ``reserved_max`` the storage is
    ``[num_seqs, max_seq_len, num_kv_heads, head_dim]``, where ``num_seqs`` is the number of sequences that the budget
    holds. A remainder stays unused.

    Args:
        model: shapes and dtype.
        policy: a ``Reserved`` policy.
        device: device of the storage.
        num_layers: layers that get storage.
        options: must be empty.

    Raises:
        Unsupported: the policy is not a reserved one, or the attention of the model is not plain.
        ValueError: an unknown option.
    """

    def __init__(
        self, model: ModelSpec, policy: Policy, *, device: str, num_layers: int, options: Mapping[str, object]
    ) -> None:
        check_options(options, ())
        check_plain(model, "contiguous")
        self.policy = require_regions(policy, "contiguous")
        self._model = model
        self._device = torch.device(device)
        self._storage = SlotStorage(model, self.policy.num_slots, num_layers, self._device)
        self._prompts = PromptAttention(self._storage, self._device)
        self._call = Call(PER_SEQUENCE, sdpa.backends_on(self._device)[0], model.group_size)
        self._is_tuned = False
        self._details = {"sdpa_backend": None, "bytes_read": None}

    @property
    def tensors(self) -> Sequence[Tensor]:
        """``[num_slots, num_kv_heads, head_dim]`` each: K of each layer, then V of each layer."""
        return [*self._storage.keys, *self._storage.values]

    @property
    def storage_bytes(self) -> int:
        """Bytes of the K and V tensors as allocated."""
        return self._storage.nbytes

    def write(self, layer: int, slot_mapping: Tensor, keys: Tensor, values: Tensor) -> None:
        """Store K and V of some tokens (see ``KVCache.write``)."""
        self._storage.write(layer, slot_mapping, keys, values)

    def prepare(self, seq_ids: Sequence[int]) -> ContiguousBatch:
        """Return the regions of a batch (see ``KVCache.prepare``)."""
        regions = [self.policy.region(seq_id) for seq_id in seq_ids]
        lens = [self.policy.seq_len(seq_id) for seq_id in seq_ids]
        tokens = [slice(first, first + length) for (first, _), length in zip(regions, lens, strict=True)]
        newest = [span.stop - 1 for span in tokens]
        is_candidate = not self._is_tuned or self._call.kind == PADDED
        return ContiguousBatch(
            slot_mapping=torch.tensor(newest, dtype=torch.int64).to(self._device),
            seq_lens=torch.tensor(lens, dtype=torch.int32).to(self._device),
            tokens=tokens,
            padding=self._padding(regions, lens) if is_candidate else None,
        )

    def tune(self, query: Tensor, batch: ContiguousBatch) -> None:
        """Time every call that is possible on this device and for this batch, and keep the fastest.

        If another call is faster than the padded call, ``batch.padding`` becomes ``None``.

        Raises:
            Unsupported: no call works. The math back-end of SDPA does not count.
        """
        kinds = [PER_SEQUENCE]
        if self._device.type == "cpu":
            kinds.append(PER_THREAD)
        if batch.padding is not None:
            kinds.append(PADDED)
        backends = sdpa.backends_on(self._device)
        row_counts = sdpa.row_counts(self._model, self._device)
        calls: dict[Call, Callable[[], Tensor]] = {}
        for call in map(Call._make, product(kinds, backends, row_counts)):
            calls[call] = partial(self._attend, call, 0, query, batch)
        self._call = fastest(calls, self._device)
        self._is_tuned = True
        self._details = {
            "sdpa_backend": self._call.backend,
            "sdpa_call": self._call.kind,
            "query_rows": self._call.num_rows,
            "bytes_read": self._tokens_read(batch) * self._model.token_bytes_per_layer + 2 * query.nbytes,
        }
        if self._call.kind != PADDED:
            batch.padding = None

    def decode(self, layer: int, query: Tensor, batch: ContiguousBatch) -> Tensor:
        """Return attention of one new token per sequence (see ``KVCache.decode``)."""
        return self._attend(self._call, layer, query, batch)

    def prepare_prefill(self, seq_ids: Sequence[int], num_queries: Sequence[int]) -> TorchPrefillBatch:
        """Return the regions of a batch of query tokens (see ``PrefillKVCache.prepare_prefill``)."""
        lens = [self.policy.seq_len(seq_id) for seq_id in seq_ids]
        firsts = [self.policy.region(seq_id)[0] for seq_id in seq_ids]
        tokens = [
            Piece(slots=slice(first, first + length), num_chunks=1, width=length, mask=None)
            for first, length in zip(firsts, lens, strict=True)
        ]
        return self._prompts.prepare(self.policy, seq_ids, num_queries, tokens)

    def details(self) -> Mapping[str, str | int | float | None]:
        """Return facts about the last ``tune``: ``sdpa_backend, sdpa_call, query_rows, bytes_read``."""
        return dict(self._details)

    def _attend(self, call: Call, layer: int, query: Tensor, batch: ContiguousBatch) -> Tensor:
        rows = sdpa.as_rows(query, self._model.num_kv_heads, call.num_rows)
        with sdpa.use_backend(call.backend):
            if call.kind == PADDED and batch.padding is not None:
                out = self._padded(layer, rows, batch.padding)
            else:  # also for a batch without padding, after a tune that chose the padded call
                out = self._one_by_one(layer, rows, batch.tokens, in_threads=call.kind == PER_THREAD)
        return out[:, :, : self._model.group_size].reshape(query.shape)

    def _padded(self, layer: int, rows: Tensor, padding: Padding) -> Tensor:
        keys = padding.view(self._storage.keys[layer], len(rows))
        values = padding.view(self._storage.values[layer], len(rows))
        return sdpa.attend(rows, keys, values, padding.mask)

    def _one_by_one(self, layer: int, rows: Tensor, tokens: Sequence[slice], *, in_threads: bool) -> Tensor:
        keys, values = self._storage.keys[layer], self._storage.values[layer]

        def attend(sequence: tuple[Tensor, slice]) -> Tensor:
            row, span = sequence
            return sdpa.attend(row, keys[None, span], values[None, span], None)

        sequences = zip(rows.split(1), tokens, strict=True)
        return torch.cat(self._workers.map(attend, sequences) if in_threads else list(map(attend, sequences)))

    @cached_property
    def _workers(self) -> Workers:
        """Created at first use, because a GPU needs no workers."""
        return Workers()

    def _padding(self, regions: Sequence[tuple[int, int]], lens: Sequence[int]) -> Padding | None:
        first_slot, region_slots = regions[0]
        in_a_row = all(right - left == region_slots for (left, _), (right, _) in pairwise(regions))
        if not in_a_row or any(num_slots != region_slots for _, num_slots in regions):
            return None
        mask = None if min(lens) == max(lens) else self._mask(np.array(lens))
        return Padding(first_slot=first_slot, region_slots=region_slots, max_len=max(lens), mask=mask)

    def _mask(self, lens: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Tensor:
        is_padding = torch.from_numpy(np.arange(lens.max()) >= lens[:, None])
        mask = torch.zeros(is_padding.shape, dtype=getattr(torch, self._model.dtype))
        return mask.masked_fill_(is_padding, -torch.inf)[:, None, None].to(self._device)

    def _tokens_read(self, batch: ContiguousBatch) -> int:
        """Return the number of tokens whose K and V the chosen call reads, including padding."""
        if self._call.kind == PADDED and batch.padding is not None:
            return len(batch.tokens) * batch.padding.max_len
        return sum(span.stop - span.start for span in batch.tokens)
