"""Unified attention of vLLM over pages: a Triton kernel from the package vllm."""

from __future__ import annotations

import importlib
import inspect
import math
from collections.abc import Callable
from typing import Any, Final

import torch
from torch import Tensor

from impls.external.paged import ExternalBatch, ExternalPaged
from impls.interface import Unsupported
from impls.kernels.heuristics import next_power_of_2
from impls.kernels.support import load_kernels
from impls.storage.paged_batch import PagedBatch

MODULES: Final = ("vllm.v1.attention.ops.triton_unified_attention", "vllm.attention.ops.triton_unified_attention")
"""Modules of the kernel in different versions, the newest first."""
# From vllm/v1/attention/backends/triton_attn.py:
SEGMENTS: Final = 16  # vLLM cuts a sequence into so many segments if the batch is small
SMALL_GRID: Final = 128  # a batch with fewer programs is small


class PagedVllm(ExternalPaged):
    """``unified_attention`` of vLLM, called as the Triton back-end of vLLM calls it for decoding."""

    NAME = "paged_vllm"
    PACKAGE = "vllm"
    DTYPES = ("float16", "bfloat16", "float32")

    def _runs_on(self, kind: str) -> bool:
        return super()._runs_on(kind) or load_kernels(self.NAME).are_interpreted

    def _set_up(self) -> None:
        from vllm.triton_utils import HAS_TRITON

        if not HAS_TRITON:
            raise Unsupported(
                f"{self.NAME} requires Triton, and vllm has switched it off because it finds no active driver. "
                "Set CUDA_VISIBLE_DEVICES to an empty value to keep Triton"
            )
        self._unified_attention = self._find()
        self._segments = self._buffers() if "softmax_segm_output" in self._parameters else {}

    def _find(self) -> Callable[..., None]:
        for name in MODULES:
            try:
                found: Callable[..., None] = importlib.import_module(name).unified_attention
            except ImportError:
                continue
            self._parameters = inspect.signature(found).parameters
            return found
        raise Unsupported(f"{self.NAME} requires unified_attention in {' or '.join(MODULES)}; this vllm has neither")

    def _buffers(self) -> dict[str, Any]:
        """Return the buffers for cutting sequences into segments. Without them a small batch would be slower."""
        max_seqs = max(SMALL_GRID // self._model.num_kv_heads, 1)
        shape = (max_seqs, self._model.num_query_heads, SEGMENTS)
        padded = next_power_of_2(self._model.head_dim)
        return {
            "seq_threshold_3D": max_seqs,
            "num_par_softmax_segments": SEGMENTS,
            "softmax_segm_output": torch.empty((*shape, padded), device=self._device),
            "softmax_segm_max": torch.empty(shape, device=self._device),
            "softmax_segm_expsum": torch.empty(shape, device=self._device),
        }

    def _plan(self, paged: PagedBatch) -> ExternalBatch:
        return self._plan_queries(paged)

    def _attend(self, query: Tensor, keys: Tensor, values: Tensor, batch: ExternalBatch) -> Tensor:
        out = torch.empty_like(query)
        self._unified_attention(
            q=query,
            k=keys,
            v=values,
            out=out,
            cu_seqlens_q=batch.extra,
            max_seqlen_q=1,
            seqused_k=batch.paged.seq_lens,
            max_seqlen_k=batch.paged.host.max_seq_len,
            softmax_scale=1 / math.sqrt(self._model.head_dim),
            causal=True,
            window_size=(-1, -1),
            block_table=batch.paged.page_table,
            softcap=0,
            q_descale=None,
            k_descale=None,
            v_descale=None,
            **self._segments,
        )
        return out
