"""FlashAttention 2 over pages, from the package flash-attn."""

from __future__ import annotations

from typing import Final

from torch import Tensor

from impls.external.paged import ExternalBatch, ExternalPaged
from impls.interface import Unsupported
from impls.storage.paged_batch import PagedBatch

PAGE_MULTIPLE: Final = 256
"""Page sizes must be multiples of this (documentation of ``flash_attn_with_kvcache``)."""


class PagedFlashAttn(ExternalPaged):
    """``flash_attn.flash_attn_with_kvcache`` with a block table. The page size is a multiple of 256 tokens."""

    NAME = "paged_flash_attn"
    PACKAGE = "flash_attn"

    def _set_up(self) -> None:
        if self.policy.page_size % PAGE_MULTIPLE:
            raise Unsupported(
                f"{self.NAME} requires a page_size that is a multiple of {PAGE_MULTIPLE} (got {self.policy.page_size})"
            )
        from flash_attn import flash_attn_with_kvcache

        self._flash_attn_with_kvcache = flash_attn_with_kvcache

    def _plan(self, paged: PagedBatch) -> ExternalBatch:
        paged.page_table.clamp_(min=0)  # for the reason given in _plan_queries
        return ExternalBatch(paged=paged)

    def _attend(self, query: Tensor, keys: Tensor, values: Tensor, batch: ExternalBatch) -> Tensor:
        out: Tensor = self._flash_attn_with_kvcache(
            query[:, None],  # one query per sequence
            keys,
            values,
            cache_seqlens=batch.paged.seq_lens,
            block_table=batch.paged.page_table,
            causal=True,
        )
        return out[:, 0]
