"""Variable-length attention of PyTorch with a block table (torch 2.13 and later)."""

from __future__ import annotations

import inspect
from typing import NamedTuple

import torch
from torch import Tensor

from impls.external.paged import ExternalBatch, ExternalPaged
from impls.interface import Unsupported
from impls.storage.paged_batch import PagedBatch


class _Starts(NamedTuple):
    """Start of the query and of the keys of each sequence in a ragged layout, int32 ``[num_seqs + 1]``."""

    queries: Tensor
    keys: Tensor


class PagedTorchVarlen(ExternalPaged):
    """``torch.nn.attention.varlen.varlen_attn`` over pages: FlashAttention 2 as torch ships it.

    ``cu_seq_k`` may be ``None`` only in FlashAttention 3 and 4, which torch does not ship. FlashAttention 2 requires it
    even with a block table, although it then reads the lengths from ``seqused_k``.
    """

    NAME = "paged_torch_varlen"

    def _set_up(self) -> None:
        try:
            from torch.nn.attention.varlen import varlen_attn
        except ImportError as error:
            raise Unsupported(f"{self.NAME} needs torch 2.13 or later (got {torch.__version__})") from error
        if "block_table" not in inspect.signature(varlen_attn).parameters:
            raise Unsupported(
                f"{self.NAME} needs varlen_attn with block_table, as in torch 2.13 (got {torch.__version__})"
            )
        self._varlen_attn = varlen_attn

    def _plan(self, paged: PagedBatch) -> ExternalBatch:
        batch = self._plan_queries(paged)
        keys = torch.nn.functional.pad(paged.seq_lens.cumsum(0, dtype=torch.int32), (1, 0))
        batch.extra, batch.extra_bytes = _Starts(batch.extra, keys), batch.extra_bytes + keys.nbytes
        return batch

    def _attend(self, query: Tensor, keys: Tensor, values: Tensor, batch: ExternalBatch) -> Tensor:
        paged = batch.paged
        out = self._varlen_attn(
            query,
            keys,
            values,
            batch.extra.queries,
            batch.extra.keys,
            1,
            paged.host.max_seq_len,
            enable_gqa=self._model.group_size > 1,
            seqused_k=paged.seq_lens,
            block_table=paged.page_table,
            # With one query head per KV head the default sometimes gave NaN (torchtitan issue 3235). The kernel then
            # splits ragged queries, which its merging does not support. Grouped heads become rows first.
            num_splits=None if self._model.group_size > 1 else 1,
        )
        assert isinstance(out, Tensor)  # the log-sum-exp is returned only on request
        return out
