"""Moves pages as a policy asks: copies for copy-on-write, to the host and back for swapping."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from impls.interface import PageCopy
from impls.kernels import heuristics
from impls.spec import ceil_div
from impls.triton_setup import Setup, Storage


class PageMover:
    """Copies whole pages of all layers, a launch per tensor for however many pages.

    The host's pool is pinned where the device is CUDA, so that the device reads and writes it itself.

    Args:
        setup: the kernels, and where they run.
        storage: the pool's K and V.
        host_pages: pages of the host's pool.
    """

    def __init__(self, setup: Setup, storage: Storage, host_pages: int) -> None:
        self._setup = setup
        self._pool = storage.tensors
        self._page_elements = setup.layout.page_stride
        shape, dtype = (host_pages, self._page_elements), self._pool[0].dtype
        is_cuda = setup.device.type == "cuda"
        self._host = [torch.empty(shape, dtype=dtype, pin_memory=is_cuda) for _ in self._pool if host_pages]
        self._host_pages = host_pages

    @property
    def host_bytes(self) -> int:
        """Bytes of the host's pool."""
        return sum(tensor.nbytes for tensor in self._host)

    def copy(self, copies: Sequence[PageCopy]) -> None:
        """Copy pages within the pool: the targets are no other's sources."""
        self._move(self._pool, self._pool, copies)

    def swap_out(self, copies: Sequence[PageCopy]) -> None:
        """Copy pages of the pool to the host's.

        Raises:
            ValueError: a target is no page of the host's pool.
        """
        self._check(target for _, target in copies)
        self._move(self._pool, self._host, copies)

    def swap_in(self, copies: Sequence[PageCopy]) -> None:
        """Copy pages of the host's pool into the pool.

        Raises:
            ValueError: a source is no page of the host's pool.
        """
        self._check(source for source, _ in copies)
        self._move(self._host, self._pool, copies)

    def _check(self, pages: Iterable[int]) -> None:
        for page in pages:
            if not 0 <= page < self._host_pages:
                raise ValueError(
                    f"page {page} is not one of the host's impl.options.host_pages={self._host_pages} pages"
                )

    def _move(self, sources: Sequence[Tensor], targets: Sequence[Tensor], copies: Sequence[PageCopy]) -> None:
        if not copies:
            return
        pairs = torch.tensor(copies, dtype=torch.int64).to(self._setup.device)
        block = heuristics.next_power_of_2(heuristics.COPY_BYTES // self._pool[0].element_size())
        for source, target in zip(sources, targets, strict=True):
            self._setup.kernels.copy_pages[(len(copies), ceil_div(self._page_elements, block))](
                source, target, pairs, PAGE_ELEMENTS=self._page_elements, BLOCK_ELEMENTS=block
            )
