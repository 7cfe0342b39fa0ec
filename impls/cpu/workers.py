"""Threads that each run torch operators on one processor, with buffers of their own to gather into."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import Tensor

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class Workers:
    """A pool of as many threads as torch uses for one operator.

    torch splits each operator over all processors and waits for the slowest. With a hundred small operators in a row,
    this waiting took most of the time on a busy machine. Here each thread runs all operators of its share of the work,
    and there is one wait at the end.

    Attributes:
        num_threads: number of threads.
    """

    def __init__(self) -> None:
        self.num_threads = torch.get_num_threads()
        self._own = threading.local()
        self._pool = ThreadPoolExecutor(self.num_threads)
        all_started = threading.Barrier(self.num_threads)  # so that each thread runs one of the calls below
        list(self._pool.map(_use_one_processor, [all_started] * self.num_threads))
        torch.set_num_threads(self.num_threads)  # undo the effect of the workers' setting on new threads

    def map(self, function: Callable[[_Item], _Result], items: Iterable[_Item]) -> list[_Result]:
        """Call a function once per item, in any order. Return the results in the order of the items."""
        return list(self._pool.map(function, items))

    def buffers(self, num_rows: int, like: Tensor) -> tuple[Tensor, Tensor]:
        """Return two tensors of the calling thread, ``[at least num_rows, *like.shape[1:]]``.

        They are reused as long as the thread lives. New memory would not be in the processor's cache, and the system
        would clear it first.
        """
        held: tuple[Tensor, Tensor] | None = getattr(self._own, "buffers", None)
        if held is None or len(held[0]) < num_rows:
            shape = (num_rows, *like.shape[1:])
            held = self._own.buffers = (like.new_empty(shape), like.new_empty(shape))
        return held


def _use_one_processor(all_started: threading.Barrier) -> None:
    torch.get_num_threads()  # the first call in a thread reads the default, so it must come before the setting
    torch.set_num_threads(1)
    all_started.wait()
