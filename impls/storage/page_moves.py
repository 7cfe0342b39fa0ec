"""Page copies that a policy requires: within the pool for copy-on-write, to the host and back for swapping."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

import torch
from torch import Tensor

from impls.interface import PageCopy

MOVES: Final = ("at_once", "each")
"""Values of ``impl.options.page_moves``: as few operations as possible, or one copy per page and tensor."""

Move = Callable[[Sequence[Tensor], Sequence[Tensor], Sequence[PageCopy]], None]
"""Copies pages of the first tensors to the second tensors. Each is ``[pages, ...]`` on any device."""


class PageMover:
    """Copies whole pages of all layers within the pool, or between the pool and the host.

    Host memory is pinned if the device is CUDA, so that the device can read and write it directly.

    Args:
        pool: K of each layer, then V of each layer, ``[num_pages, page_size, num_kv_heads, head_dim]`` of any strides.
        host_pages: pages on the host, as many as the policy has there.
        way: one of ``MOVES``.
        at_once: function that makes the copies if ``way`` is ``at_once``.

    Attributes:
        way: one of ``MOVES``.
    """

    def __init__(self, pool: Sequence[Tensor], host_pages: int, *, way: str, at_once: Move) -> None:
        self.way = way
        self._pool = pool
        self._host_pages = host_pages
        self._host = [_on_host(tensor, host_pages) for tensor in pool if host_pages]
        self._move = at_once if way == "at_once" else copy_each

    @property
    def host_bytes(self) -> int:
        """Bytes of the pages on the host."""
        return sum(tensor.nbytes for tensor in self._host)

    def copy(self, copies: Sequence[PageCopy]) -> None:
        """Copy pages within the pool. No target is the source of another copy."""
        if copies:
            self._move(self._pool, self._pool, copies)

    def swap_out(self, copies: Sequence[PageCopy]) -> None:
        """Copy pages of the pool to pages of the host.

        Raises:
            ValueError: a target is not a page of the host.
        """
        self._check(target for _, target in copies)
        if copies:
            self._move(self._pool, self._host, copies)

    def swap_in(self, copies: Sequence[PageCopy]) -> None:
        """Copy pages of the host to pages of the pool.

        Raises:
            ValueError: a source is not a page of the host.
        """
        self._check(source for source, _ in copies)
        if copies:
            self._move(self._host, self._pool, copies)

    def _check(self, pages: Iterable[int]) -> None:
        for page in pages:
            if not 0 <= page < self._host_pages:
                raise ValueError(
                    f"page {page} is not one of the {self._host_pages} pages that the policy has on the host"
                )


class MovesPages:
    """The methods of ``MovingKVCache``, for a cache that has a ``PageMover``."""

    _mover: PageMover

    def copy_pages(self, copies: Sequence[PageCopy]) -> None:
        """Copy pages within the pool (see ``MovingKVCache.copy_pages``)."""
        self._mover.copy(copies)

    def swap_out(self, copies: Sequence[PageCopy]) -> None:
        """Copy pages of the pool to the host (see ``MovingKVCache.swap_out``)."""
        self._mover.swap_out(copies)

    def swap_in(self, copies: Sequence[PageCopy]) -> None:
        """Copy pages of the host to the pool (see ``MovingKVCache.swap_in``)."""
        self._mover.swap_in(copies)


def copy_each(sources: Sequence[Tensor], targets: Sequence[Tensor], copies: Sequence[PageCopy]) -> None:
    """Make one copy per page and tensor, which makes swapping small pages slow (PagedAttention paper, section 7.3)."""
    for source, target in zip(sources, targets, strict=True):
        for page, other in copies:
            target[other].copy_(source[page], non_blocking=True)


def copy_gathered(sources: Sequence[Tensor], targets: Sequence[Tensor], copies: Sequence[PageCopy]) -> None:
    """Make a gather and a scatter per tensor, with one transfer between them if the devices differ."""
    pages, others = torch.tensor(copies, dtype=torch.int64).unbind(1)
    pages, others = pages.to(sources[0].device), others.to(targets[0].device)
    for source, target in zip(sources, targets, strict=True):
        target.index_copy_(0, others, _gathered(source, pages, target.device))


def _gathered(source: Tensor, pages: Tensor, device: torch.device) -> Tensor:
    """Return pages on ``device``, through pinned memory if ``source`` is on another device."""
    if source.device == device:
        return source.index_select(0, pages)
    pinned = torch.empty((len(pages), *source.shape[1:]), dtype=source.dtype, pin_memory=True)
    if device.type == "cpu":
        return pinned.copy_(source.index_select(0, pages))
    return torch.index_select(source, 0, pages, out=pinned).to(device, non_blocking=True)


def _on_host(tensor: Tensor, num_pages: int) -> Tensor:
    """Return a host tensor of ``num_pages`` pages with the strides of ``tensor``."""
    shape = (num_pages, *tensor.shape[1:])
    return torch.empty_strided(shape, tensor.stride(), dtype=tensor.dtype, pin_memory=tensor.is_cuda)
