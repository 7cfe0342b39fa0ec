"""PyTorch's flex_attention over contiguous regions: the same kernel as ``paged_flex``, without pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from impls.external.flex import Blocks, Flex, mask_bytes
from impls.interface import Policy
from impls.policies import require_regions
from impls.spec import ModelSpec, ceil_div
from impls.storage.slots import SlotStorage, check_options, check_plain, flag_option

BLOCK_SLOTS: Final = 128
"""Slots per block of the mask. This is the default of flex_attention."""


@dataclass(frozen=True, kw_only=True)
class FlexBatch:
    """Metadata of one decode step (``impls.interface.Batch``): the blocks of slots that each sequence reads."""

    slot_mapping: Tensor
    seq_lens: Tensor
    mask: Any
    mask_bytes: int
    num_tokens: int

    @property
    def metadata_bytes(self) -> int:
        """Device bytes of the tensors."""
        return self.slot_mapping.nbytes + self.seq_lens.nbytes + self.mask_bytes


class ContiguousFlex:
    """``flex_attention`` over reserved regions. The option ``compile`` is on by default.

    Args:
        model: shapes and dtype.
        policy: a ``Reserved`` policy.
        device: device of the storage.
        num_layers: layers that get storage.
        options: ``compile``.

    Raises:
        Unsupported: the policy is not a reserved one, or the attention of the model is not plain.
        ValueError: an unknown option, or one that is neither true nor false.
    """

    def __init__(
        self, model: ModelSpec, policy: Policy, *, device: str, num_layers: int, options: Mapping[str, object]
    ) -> None:
        check_options(options, ("compile",))
        check_plain(model, "contiguous_flex")
        self.policy = require_regions(policy, "contiguous_flex")
        self._model = model
        self._device = torch.device(device)
        self._storage = SlotStorage(model, self.policy.num_slots, num_layers, self._device)
        self._flex = Flex(compiled=flag_option(options, "compile", True))
        self._details: dict[str, str | int | float | None] = {"sdpa_backend": None, "bytes_read": None}

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

    def prepare(self, seq_ids: Sequence[int]) -> FlexBatch:
        """Return the regions of a batch and their block mask (see ``KVCache.prepare``)."""
        first = np.array([self.policy.region(seq_id)[0] for seq_id in seq_ids], dtype=np.int64)
        lens = np.array([self.policy.seq_len(seq_id) for seq_id in seq_ids], dtype=np.int32)
        full, partial = _blocks(first, first + lens)
        first_slots, seq_lens = (torch.from_numpy(array).to(self._device) for array in (first, lens))

        def sees(seq: Tensor, head: Tensor, query: Tensor, slot: Tensor) -> Tensor:
            token = slot - first_slots[seq]
            return (token >= 0) & (token < seq_lens[seq])

        mask = self._flex.block_mask(
            self._on_device(full),
            self._on_device(partial),
            block_size=BLOCK_SLOTS,
            num_slots=self.policy.num_slots,
            sees=sees,
        )
        return FlexBatch(
            slot_mapping=first_slots + seq_lens - 1,
            seq_lens=seq_lens,
            mask=mask,
            mask_bytes=first_slots.nbytes + mask_bytes(mask),
            num_tokens=int(lens.sum(dtype=np.int64)),
        )

    def tune(self, query: Tensor, batch: FlexBatch) -> None:
        """Run the kernel once, so that it is compiled. There is nothing to choose."""
        self.decode(0, query, batch)
        self._details = {
            "sdpa_backend": None,
            "kernel_choice": self._flex.description,
            "bytes_read": batch.num_tokens * self._model.token_bytes_per_layer + 2 * query.nbytes,
        }

    def decode(self, layer: int, query: Tensor, batch: FlexBatch) -> Tensor:
        """Return attention of one new token per sequence (see ``KVCache.decode``)."""
        return self._flex.attend(query, self._storage.keys[layer], self._storage.values[layer], batch.mask)

    def details(self) -> Mapping[str, str | int | float | None]:
        """Return facts about the last ``tune``: ``bytes_read``, the version of torch, and whether it was compiled."""
        return dict(self._details)

    def _on_device(self, lists: Sequence[Sequence[int]]) -> Blocks:
        """Return the blocks of each sequence on the device, padded to the longest list."""
        counts = [len(blocks) for blocks in lists]
        indices = np.zeros((len(lists), max(*counts, 1)), dtype=np.int32)
        for row, blocks in zip(indices, lists, strict=True):
            row[: len(blocks)] = blocks
        return Blocks(
            torch.from_numpy(indices).to(self._device), torch.tensor(counts, dtype=torch.int32).to(self._device)
        )


def _blocks(first: NDArray[np.int64], stop: NDArray[np.int64]) -> tuple[list[list[int]], list[list[int]]]:
    """Return the blocks inside ``first .. stop - 1``, and the blocks that only overlap it, by sequence."""
    full, partial = [], []
    for begin, end in zip(first.tolist(), stop.tolist(), strict=True):
        inside = range(ceil_div(begin, BLOCK_SLOTS), end // BLOCK_SLOTS)
        touched = range(begin // BLOCK_SLOTS, ceil_div(end, BLOCK_SLOTS))
        full.append(list(inside))
        partial.append([block for block in touched if block not in inside])
    return full, partial
