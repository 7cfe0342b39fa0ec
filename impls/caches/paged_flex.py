"""PyTorch's flex_attention over pages: a block mask whose blocks are the pages of the pool."""

from __future__ import annotations

import torch
from torch import Tensor

from impls.external.flex import Blocks, Flex, mask_bytes
from impls.external.paged import ExternalBatch, ExternalPaged
from impls.storage.paged_batch import PagedBatch
from impls.storage.slots import flag_option


class PagedFlex(ExternalPaged):
    """``flex_attention`` with a block mask made from the page table. The option ``compile`` is on by default."""

    NAME = "paged_flex"
    DTYPES = ("float16", "bfloat16", "float32")
    DEVICES = ("cpu", "cuda")
    OPTIONS = ("compile",)

    def _set_up(self) -> None:
        self._flex = Flex(compiled=flag_option(self._options, "compile", True))
        self._version = self._flex.description

    def _plan(self, paged: PagedBatch) -> ExternalBatch:
        """Return a plan with the block mask, and the inverse page table that maps a slot to its token."""
        table, page_size = paged.page_table, self.policy.page_size
        num_seqs, num_pages = len(table), self.policy.num_pages
        owned = table >= 0
        rows, places = owned.nonzero(as_tuple=True)
        place_of = torch.full((num_seqs, num_pages), -1, dtype=torch.int64, device=self._device)
        place_of[rows, table[owned].long()] = places
        seq_lens = paged.seq_lens

        def sees(seq: Tensor, head: Tensor, query: Tensor, slot: Tensor) -> Tensor:
            place = place_of[seq, slot // page_size]
            return (place >= 0) & (place * page_size + slot % page_size < seq_lens[seq])

        full = seq_lens // page_size
        last = table.clamp(min=0).gather(1, full.clamp(max=table.shape[1] - 1)[:, None].long())
        mask = self._flex.block_mask(
            Blocks(table.clamp(min=0), full),
            Blocks(last, (seq_lens % page_size > 0).int()),
            block_size=page_size,
            num_slots=num_pages * page_size,
            sees=sees,
        )
        return ExternalBatch(paged=paged, extra=mask, extra_bytes=place_of.nbytes + mask_bytes(mask))

    def _attend(self, query: Tensor, keys: Tensor, values: Tensor, batch: ExternalBatch) -> Tensor:
        return self._flex.attend(query, keys.flatten(0, 1), values.flatten(0, 1), batch.extra)
