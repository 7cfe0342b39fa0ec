"""PyTorch's own variable-length attention with a block table (torch 2.13 and later)."""

from __future__ import annotations

import inspect

import torch
from torch import Tensor

from impls.borrowed import BorrowedBatch, BorrowedPaged
from impls.interface import Unsupported
from impls.paged_batch import PagedBatch


class PagedTorchVarlen(BorrowedPaged):
    """``torch.nn.attention.varlen.varlen_attn`` over pages: FlashAttention as torch ships it."""

    NAME = "paged_torch_varlen"

    def _set_up(self) -> None:
        try:
            from torch.nn.attention.varlen import varlen_attn
        except ImportError as error:
            raise Unsupported(f"{self.NAME} needs torch 2.13 or later; this is {torch.__version__}") from error
        if "block_table" not in inspect.signature(varlen_attn).parameters:
            raise Unsupported(f"{self.NAME} needs the block_table of torch 2.13; this is {torch.__version__}")
        self._varlen_attn = varlen_attn

    def _plan(self, paged: PagedBatch) -> BorrowedBatch:
        return self._plan_queries(paged)

    def _attend(self, query: Tensor, keys: Tensor, values: Tensor, batch: BorrowedBatch) -> Tensor:
        paged = batch.paged
        out = self._varlen_attn(
            query,
            keys,
            values,
            batch.extra,
            None,
            1,
            paged.host.max_seq_len,
            enable_gqa=self._model.group_size > 1,
            seqused_k=paged.seq_lens,
            block_table=paged.page_table,
        )
        assert isinstance(out, Tensor)  # and no log-sum-exp: nobody asked for it
        return out
