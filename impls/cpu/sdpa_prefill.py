"""Prefill of the caches in plain torch: one call of SDPA per sequence, over K and V in place or gathered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, pairwise

import torch
from torch import Tensor

from impls.cpu import sdpa
from impls.cpu.gather_plan import Piece
from impls.interface import Policy
from impls.launch.tuning import fastest
from impls.storage.newest_tokens import newest_slots
from impls.storage.slots import SlotStorage


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """One sequence of a prefill step.

    Attributes:
        tokens: location of K and V of all its tokens.
        rows: rows of its query tokens in the queries of the step.
        mask: see ``sdpa.causal_mask``.
    """

    tokens: Piece
    rows: slice
    mask: Tensor | None


@dataclass(frozen=True, kw_only=True)
class TorchPrefillBatch:
    """Metadata of one prefill step (``impls.interface.PrefillBatch``)."""

    slot_mapping: Tensor
    prompts: Sequence[Prompt]

    @property
    def metadata_bytes(self) -> int:
        """Device bytes of the slot mapping, the slots to gather and the masks. There is one mask per shape."""
        masks = {id(prompt.mask): prompt.mask.nbytes for prompt in self.prompts if prompt.mask is not None}
        gathers = sum(prompt.tokens.nbytes for prompt in self.prompts)
        return self.slot_mapping.nbytes + gathers + sum(masks.values())


class PromptAttention:
    """Attention of prompts over a storage of slots.

    Args:
        storage: K and V.
        device: device of the storage.
    """

    def __init__(self, storage: SlotStorage, device: torch.device) -> None:
        self._storage = storage
        self._device = device
        self._backend = sdpa.backends_on(device)[0]

    def prepare(
        self, policy: Policy, seq_ids: Sequence[int], num_queries: Sequence[int], tokens: Sequence[Piece]
    ) -> TorchPrefillBatch:
        """Return the metadata of a prefill step (see ``PrefillKVCache.prepare_prefill``).

        Args:
            policy: the policy that assigned the slots.
            seq_ids: the batch.
            num_queries: number of query tokens of each sequence.
            tokens: location of K and V of each sequence.
        """
        slots = newest_slots(policy, seq_ids, num_queries)
        shapes = [(count, piece.width) for count, piece in zip(num_queries, tokens, strict=True)]
        dtype = self._storage.keys[0].dtype
        masks = {shape: sdpa.causal_mask(*shape, dtype, self._device) for shape in dict.fromkeys(shapes)}
        rows = [slice(*span) for span in pairwise(accumulate(num_queries, initial=0))]
        return TorchPrefillBatch(
            slot_mapping=torch.from_numpy(slots).to(self._device),
            prompts=[
                Prompt(tokens=piece, rows=span, mask=masks[shape])
                for piece, span, shape in zip(tokens, rows, shapes, strict=True)
            ],
        )

    def tune(self, query: Tensor, batch: TorchPrefillBatch) -> Mapping[str, str | None]:
        """Time every back-end of this device, keep the fastest, and return facts about it for the row.

        Raises:
            Unsupported: no back-end works. The math back-end of SDPA does not count.
        """
        backends = sdpa.backends_on(self._device)
        calls = {backend: partial(self._attend, backend, 0, query, batch) for backend in backends}
        self._backend = fastest(calls, self._device)
        return {"sdpa_backend": self._backend, "sdpa_call": "per_sequence", "bytes_read": None}

    def attend(self, layer: int, query: Tensor, batch: TorchPrefillBatch) -> Tensor:
        """Return causal attention (see ``PrefillKVCache.prefill``)."""
        return self._attend(self._backend, layer, query, batch)

    def _attend(self, backend: str, layer: int, query: Tensor, batch: TorchPrefillBatch) -> Tensor:
        keys, values = self._storage.keys[layer], self._storage.values[layer]
        out = torch.empty_like(query)
        with sdpa.use_backend(backend):
            for prompt in batch.prompts:
                held = prompt.tokens.read(keys)[0], prompt.tokens.read(values)[0]
                out[prompt.rows] = sdpa.attend_causally(query[prompt.rows], *held, prompt.mask)
        return out


class PrefillsWithSdpa:
    """The methods of ``PrefillKVCache`` except ``prepare_prefill``, for a cache with K and V in slots."""

    _prompts: PromptAttention
    _details: dict[str, str | int | float | None]

    def tune_prefill(self, query: Tensor, batch: TorchPrefillBatch) -> None:
        """Time the back-ends of SDPA and keep the fastest (see ``PrefillKVCache.tune_prefill``)."""
        self._details = dict(self._prompts.tune(query, batch))

    def prefill(self, layer: int, query: Tensor, batch: TorchPrefillBatch) -> Tensor:
        """Return the causal attention of the newest tokens of each sequence (see ``PrefillKVCache.prefill``)."""
        return self._prompts.attend(layer, query, batch)
