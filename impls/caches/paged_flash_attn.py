"""FlashAttention 2 over pages, from the package flash-attn."""

from __future__ import annotations

from typing import Final

from torch import Tensor

from impls.external.borrowed import BorrowedBatch, BorrowedPaged
from impls.interface import Unsupported
from impls.storage.paged_batch import PagedBatch

PAGE_MULTIPLE: Final = 256
"""Its pages are multiples of so many tokens, says the documentation of ``flash_attn_with_kvcache``."""


class PagedFlashAttn(BorrowedPaged):
    """``flash_attn.flash_attn_with_kvcache`` with a block table; pages of 256 tokens and their multiples."""

    NAME = "paged_flash_attn"
    PACKAGE = "flash_attn"

    def _set_up(self) -> None:
        if self.policy.page_size % PAGE_MULTIPLE:
            asked = f"page_size={self.policy.page_size}"
            raise Unsupported(f"{self.NAME} takes pages of a multiple of {PAGE_MULTIPLE} tokens, not {asked}")
        from flash_attn import flash_attn_with_kvcache

        self._flash_attn_with_kvcache = flash_attn_with_kvcache

    def _plan(self, paged: PagedBatch) -> BorrowedBatch:
        paged.page_table.clamp_(min=0)  # as in _plan_queries
        return BorrowedBatch(paged=paged)

    def _attend(self, query: Tensor, keys: Tensor, values: Tensor, batch: BorrowedBatch) -> Tensor:
        out: Tensor = self._flash_attn_with_kvcache(
            query[:, None],  # one query per sequence
            keys,
            values,
            cache_seqlens=batch.paged.seq_lens,
            block_table=batch.paged.page_table,
            causal=True,
        )
        return out[:, 0]
