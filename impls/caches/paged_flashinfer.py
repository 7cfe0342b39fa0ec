"""Batch decode of FlashInfer over pages, from the package flashinfer-python."""

from __future__ import annotations

from functools import partial
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from torch import Tensor

from impls.external.paged import ExternalBatch, ExternalPaged
from impls.interface import Unsupported
from impls.launch.tuning import fastest
from impls.storage.paged_batch import PagedBatch

WORKSPACE_BYTES: Final = 128 * 2**20  # the size in its documentation


class _Csr(NamedTuple):
    """The page table in the form of FlashInfer, int32: the page ids of all sequences, and the start of each sequence.

    ``plan`` computes on the host and copies to the device itself, so two of the tensors stay on the host.
    """

    kv_indptr: Tensor  # on the host
    kv_indices: Tensor  # on the device
    kv_last_page_len: Tensor  # on the host


class PagedFlashInfer(ExternalPaged):
    """``flashinfer.BatchDecodeWithPagedKVCacheWrapper``. ``tune`` chooses the faster of tensor cores and CUDA cores."""

    NAME = "paged_flashinfer"
    PACKAGE = "flashinfer"

    def _set_up(self) -> None:
        import flashinfer

        # One workspace is enough for both, because its contents are used within one call only.
        workspace = torch.zeros(WORKSPACE_BYTES, dtype=torch.uint8, device=self._device)
        self._wrappers: dict[bool, Any] = {
            use_tensor_cores: flashinfer.BatchDecodeWithPagedKVCacheWrapper(
                workspace, "NHD", use_tensor_cores=use_tensor_cores
            )
            for use_tensor_cores in (False, True)
        }
        self._use_tensor_cores = self._model.group_size > 1
        self._planned: tuple[bool, _Csr] | None = None  # a wrapper holds the plan of one batch

    def tune(self, query: Tensor, batch: ExternalBatch) -> None:
        """Time the kernels that support this model, and keep the faster (see ``KVCache.tune``).

        Raises:
            Unsupported: neither kernel supports it. The message is that of the second kernel.
        """
        calls, refusal = {}, None
        for use_tensor_cores in self._wrappers:
            call = partial(self._run, use_tensor_cores, query, *self._layer(0))
            try:
                self._call(partial(self._plan_for, use_tensor_cores, batch.extra))
                self._call(call)
            except Unsupported as error:
                refusal = error
            else:
                calls[use_tensor_cores] = call
        if not calls and refusal is not None:
            raise refusal
        self._use_tensor_cores = fastest(calls, self._device)
        super().tune(query, batch)
        self._details["kernel_choice"] = f"{self._version}, tensor cores: {self._use_tensor_cores}"

    def _plan(self, paged: PagedBatch) -> ExternalBatch:
        """Plan on the host, once per step."""
        csr = self._csr(paged)
        self._plan_for(self._use_tensor_cores, csr)
        return ExternalBatch(paged=paged, extra=csr, extra_bytes=sum(tensor.nbytes for tensor in csr))

    def _csr(self, paged: PagedBatch) -> _Csr:
        table, page_size = paged.host.page_table, paged.host.page_size
        kv_indptr = np.concatenate([[0], np.cumsum((table >= 0).sum(axis=1))]).astype(np.int32)
        last = ((paged.host.seq_lens - 1) % page_size + 1).astype(np.int32)
        kv_indices = torch.from_numpy(table[table >= 0]).to(self._device)
        return _Csr(torch.from_numpy(kv_indptr), kv_indices, torch.from_numpy(last))

    def _plan_for(self, use_tensor_cores: bool, csr: _Csr) -> None:
        self._planned = (use_tensor_cores, csr)
        dtype: torch.dtype = getattr(torch, self._model.dtype)
        self._wrappers[use_tensor_cores].plan(
            csr.kv_indptr,
            csr.kv_indices,
            csr.kv_last_page_len,
            self._model.num_query_heads,
            self._model.num_kv_heads,
            self._model.head_dim,
            self.policy.page_size,
            pos_encoding_mode="NONE",
            q_data_type=dtype,
            kv_data_type=dtype,
        )

    def _attend(self, query: Tensor, keys: Tensor, values: Tensor, batch: ExternalBatch) -> Tensor:
        if self._planned is None or self._planned[0] != self._use_tensor_cores or self._planned[1] is not batch.extra:
            self._plan_for(self._use_tensor_cores, batch.extra)  # another batch was prepared after this one
        return self._run(self._use_tensor_cores, query, keys, values)

    def _run(self, use_tensor_cores: bool, query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        out: Tensor = self._wrappers[use_tensor_cores].run(query, (keys, values))
        return out
