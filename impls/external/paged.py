"""Base of the paged caches that call attention kernels of other projects: everything except the attention."""

from __future__ import annotations

import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from typing import Any, ClassVar, Final, TypeVar

import torch
from torch import Tensor

from impls.interface import Policy, Unsupported
from impls.policies import require_pages
from impls.spec import ModelSpec
from impls.storage.page_table import build_page_table, unique_live_tokens
from impls.storage.paged_batch import PagedBatch, PageTableBatch, to_device
from impls.storage.slots import SlotStorage, check_options, check_plain

_Result = TypeVar("_Result")
HALF_PRECISION: Final = ("float16", "bfloat16")


@dataclass(kw_only=True)
class ExternalBatch(PageTableBatch):
    """Metadata of one decode step (``impls.interface.Batch``), with additional data that the kernel requires.

    Attributes:
        extra: additional data of the implementation.
        extra_bytes: device bytes of ``extra``.
    """

    extra: Any = None
    extra_bytes: int = 0

    @property
    def metadata_bytes(self) -> int:
        """Device bytes of the page table, the lengths, the slot mapping and ``extra``."""
        return self.paged.metadata_bytes + self.extra_bytes


class ExternalPaged(ABC):
    """KV cache over a pool of pages, ``[num_pages, page_size, num_kv_heads, head_dim]`` per layer.

    Args:
        model: shapes and dtype.
        policy: a ``PagePool``.
        device: device of the storage.
        num_layers: layers that get storage.
        options: the keys are in ``OPTIONS``.

    Raises:
        Unsupported: the package is not installed, the kernel does not support the device, the dtype or the page size,
            or the attention of the model is not plain.
        ValueError: an unknown option.
    """

    NAME: ClassVar[str]
    PACKAGE: ClassVar[str | None] = None  # package that must be installed besides torch
    DTYPES: ClassVar[Sequence[str]] = HALF_PRECISION
    DEVICES: ClassVar[Sequence[str]] = ("cuda",)
    OPTIONS: ClassVar[Sequence[str]] = ()

    def __init__(
        self, model: ModelSpec, policy: Policy, *, device: str, num_layers: int, options: Mapping[str, object]
    ) -> None:
        check_options(options, self.OPTIONS)
        self._version = self._require(model, device)
        check_plain(model, self.NAME)
        self.policy = require_pages(policy, self.NAME)
        self._model = model
        self._device = torch.device(device)
        self._options = options
        self._storage = SlotStorage(model, self.policy.num_pages * self.policy.page_size, num_layers, self._device)
        self._details: dict[str, str | int | float | None] = {"sdpa_backend": None, "bytes_read": None}
        try:
            self._set_up()
        except ImportError as error:  # the package was built for another torch, or only a part of it is installed
            raise Unsupported(f"{self.NAME} cannot import its package: {_first_line(error)}") from error

    @property
    def tensors(self) -> Sequence[Tensor]:
        """``[num_pages, page_size, num_kv_heads, head_dim]`` each: K of each layer, then V of each layer."""
        return [self._pages(rows) for rows in (*self._storage.keys, *self._storage.values)]

    @property
    def storage_bytes(self) -> int:
        """Bytes of the K and V tensors as allocated."""
        return self._storage.nbytes

    def write(self, layer: int, slot_mapping: Tensor, keys: Tensor, values: Tensor) -> None:
        """Store K and V of some tokens (see ``KVCache.write``)."""
        self._storage.write(layer, slot_mapping, keys, values)

    def prepare(self, seq_ids: Sequence[int]) -> ExternalBatch:
        """Return the page table of a batch and the plan of the kernel (see ``KVCache.prepare``)."""
        paged = to_device(build_page_table(self.policy, seq_ids), self._device)
        return self._call(partial(self._plan, paged))

    def tune(self, query: Tensor, batch: ExternalBatch) -> None:
        """Run the kernel once, so that it is compiled. The kernel makes its own choices."""
        self.decode(0, query, batch)
        table = batch.paged.host
        live_bytes = unique_live_tokens(table) * self._model.token_bytes_per_layer
        self._details = {
            "sdpa_backend": None,
            "kernel_choice": self._version,
            "bytes_read": live_bytes + 2 * query.nbytes + table.page_table.nbytes,
        }

    def decode(self, layer: int, query: Tensor, batch: ExternalBatch) -> Tensor:
        """Return attention of one new token per sequence (see ``KVCache.decode``)."""
        return self._call(partial(self._attend, query, *self._layer(layer), batch))

    def details(self) -> Mapping[str, str | int | float | None]:
        """Return facts about the last ``tune``: ``bytes_read``, and the package and version of the kernel."""
        return dict(self._details)

    @abstractmethod
    def _attend(self, query: Tensor, keys: Tensor, values: Tensor, batch: ExternalBatch) -> Tensor:
        """Return attention over the pages of one layer."""

    def _set_up(self) -> None:
        """Import the kernel, and check shapes.

        Raises:
            Unsupported: the kernel does not support a shape.
        """
        return

    def _runs_on(self, kind: str) -> bool:
        """Return whether the kernel runs on this kind of device."""
        return kind in self.DEVICES

    def _plan(self, paged: PagedBatch) -> ExternalBatch:
        return ExternalBatch(paged=paged)

    def _plan_queries(self, paged: PagedBatch) -> ExternalBatch:
        """Return a plan for kernels of ragged queries: ``extra`` is the start of each query, int32 ``[num_seqs + 1]``.

        Past the end of a sequence the page table on the device has page 0 instead of -1, because such kernels may
        compute addresses there, although they load nothing.
        """
        paged.page_table.clamp_(min=0)
        starts = torch.arange(len(paged.host.seq_lens) + 1, dtype=torch.int32, device=self._device)
        return ExternalBatch(paged=paged, extra=starts, extra_bytes=starts.nbytes)

    def _call(self, call: Callable[[], _Result]) -> _Result:
        """Return the result of a call of the kernel. Errors of the kernel become ``Unsupported``.

        Raises:
            Unsupported: the kernel refuses this case. The message contains that of the kernel.
        """
        try:
            return call()
        except torch.OutOfMemoryError:
            raise  # not a missing ability, and the caller has a status for it
        except (RuntimeError, ValueError, AssertionError, NotImplementedError) as error:
            message = f"{self.NAME} does not support page_size={self.policy.page_size} here: {_first_line(error)}"
            raise Unsupported(message) from error

    def _layer(self, layer: int) -> tuple[Tensor, Tensor]:
        return self._pages(self._storage.keys[layer]), self._pages(self._storage.values[layer])

    def _pages(self, rows: Tensor) -> Tensor:
        return rows.view(self.policy.num_pages, self.policy.page_size, *rows.shape[1:])

    def _require(self, model: ModelSpec, device: str) -> str:
        """Return the package and version of the kernel.

        Raises:
            Unsupported: the package is missing, or the kernel does not support the device or the dtype.
        """
        package = self.PACKAGE or "torch"
        if importlib.util.find_spec(package) is None:
            raise Unsupported(f"{self.NAME} needs the package {package}, which is not installed")
        kind = torch.device(device).type
        if not self._runs_on(kind):
            raise Unsupported(f"{self.NAME} needs device={' or '.join(self.DEVICES)} (got {kind})")
        if model.dtype not in self.DTYPES:
            raise Unsupported(f"{self.NAME} supports only model.dtype={' or '.join(self.DTYPES)} (got {model.dtype})")
        if self.PACKAGE is None:
            return f"torch {torch.__version__}"
        return f"{package} {metadata.version(metadata.packages_distributions()[package][0])}"


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or ["the error has no message"])[0]
