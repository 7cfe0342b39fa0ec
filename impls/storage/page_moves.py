"""Moves pages as a policy asks: copies for copy-on-write, to the host and back for swapping."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

import torch
from torch import Tensor

from impls.interface import PageCopy

MOVES: Final = ("at_once", "each")
"""Values of ``impl.options.page_moves``: as few operations as the implementation can, or a copy per page and tensor."""

Move = Callable[[Sequence[Tensor], Sequence[Tensor], Sequence[PageCopy]], None]
"""Copies pages of the first tensors to those of the second, one by one; each is ``[pages, ...]``, wherever it lies."""


class PageMover:
    """Copies whole pages of all layers, within the pool or between it and the host's.

    The host's pool is pinned where the device is CUDA, so that the device reads and writes it itself.

    Args:
        pool: K of each layer, then V of each layer, ``[num_pages, page_size, num_kv_heads, head_dim]`` of any strides.
        host_pages: pages of the host's pool, as many as the policy has there.
        way: one of ``MOVES``.
        at_once: makes the copies, if that is the way.

    Attributes:
        way: as given.
    """

    def __init__(self, pool: Sequence[Tensor], host_pages: int, *, way: str, at_once: Move) -> None:
        self.way = way
        self._pool = pool
        self._host_pages = host_pages
        self._host = [_on_host(tensor, host_pages) for tensor in pool if host_pages]
        self._move = at_once if way == "at_once" else copy_each

    @property
    def host_bytes(self) -> int:
        """Bytes of the host's pool."""
        return sum(tensor.nbytes for tensor in self._host)

    def copy(self, copies: Sequence[PageCopy]) -> None:
        """Copy pages within the pool: the targets are no other's sources."""
        if copies:
            self._move(self._pool, self._pool, copies)

    def swap_out(self, copies: Sequence[PageCopy]) -> None:
        """Copy pages of the pool to the host's.

        Raises:
            ValueError: a target is no page of the host's pool.
        """
        self._check(target for _, target in copies)
        if copies:
            self._move(self._pool, self._host, copies)

    def swap_in(self, copies: Sequence[PageCopy]) -> None:
        """Copy pages of the host's pool into the pool.

        Raises:
            ValueError: a source is no page of the host's pool.
        """
        self._check(source for source, _ in copies)
        if copies:
            self._move(self._host, self._pool, copies)

    def _check(self, pages: Iterable[int]) -> None:
        for page in pages:
            if not 0 <= page < self._host_pages:
                raise ValueError(f"page {page} is not one of the policy's {self._host_pages} pages on the host")


class MovesPages:
    """What ``MovingKVCache`` adds, in a cache that has a ``PageMover``."""

    _mover: PageMover

    def copy_pages(self, copies: Sequence[PageCopy]) -> None:
        """Copy pages within the pool; see ``MovingKVCache.copy_pages``."""
        self._mover.copy(copies)

    def swap_out(self, copies: Sequence[PageCopy]) -> None:
        """Copy pages of the pool to the host's; see ``MovingKVCache.swap_out``."""
        self._mover.swap_out(copies)

    def swap_in(self, copies: Sequence[PageCopy]) -> None:
        """Copy pages of the host's pool into the pool; see ``MovingKVCache.swap_in``."""
        self._mover.swap_in(copies)


def copy_each(sources: Sequence[Tensor], targets: Sequence[Tensor], copies: Sequence[PageCopy]) -> None:
    """A copy per page and tensor: what makes small pages dear to swap (PagedAttention paper, section 7.3)."""
    for source, target in zip(sources, targets, strict=True):
        for page, other in copies:
            target[other].copy_(source[page], non_blocking=True)


def copy_gathered(sources: Sequence[Tensor], targets: Sequence[Tensor], copies: Sequence[PageCopy]) -> None:
    """Per tensor a gather, one transfer where the two are not on one device, and a scatter."""
    pages, others = torch.tensor(copies, dtype=torch.int64).unbind(1)
    pages, others = pages.to(sources[0].device), others.to(targets[0].device)
    for source, target in zip(sources, targets, strict=True):
        target.index_copy_(0, others, _gathered(source, pages, target.device))


def _gathered(source: Tensor, pages: Tensor, device: torch.device) -> Tensor:
    """Some pages on a device, by way of pinned memory if it is another."""
    if source.device == device:
        return source.index_select(0, pages)
    pinned = torch.empty((len(pages), *source.shape[1:]), dtype=source.dtype, pin_memory=True)
    if device.type == "cpu":
        return pinned.copy_(source.index_select(0, pages))
    return torch.index_select(source, 0, pages, out=pinned).to(device, non_blocking=True)


def _on_host(tensor: Tensor, num_pages: int) -> Tensor:
    """A tensor of as many pages, laid out as those of ``tensor``."""
    shape = (num_pages, *tensor.shape[1:])
    return torch.empty_strided(shape, tensor.stride(), dtype=tensor.dtype, pin_memory=tensor.is_cuda)
