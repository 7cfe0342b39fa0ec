"""What a timer is given: a call that takes turns on copies of its inputs, and proof that it does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


class RotationDefeated(RuntimeError):
    """A call did not touch the copy of its inputs that it was told to: its times would be of a warm cache."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """The same work on any of several copies of its inputs.

    A call without arguments would hold on to one copy, whatever the timer rotates; so a call
    is told which copy to work on, and ``check_rotation`` proves that it obeys.

    Attributes:
        call: does the work on copy ``index``.
        copies: of each copy, the tensors that ``call(index)`` reads or writes.
        bytes_per_call: bytes of a copy that one call touches.
    """

    call: Callable[[int], object]
    copies: Sequence[Sequence[Tensor]]
    bytes_per_call: int

    @classmethod
    def of_one(cls, call: Callable[[], object], *inputs: Tensor) -> Work:
        """Work on one copy of its inputs only, all of which it touches."""
        return cls(call=lambda index: call(), copies=[inputs], bytes_per_call=sum(tensor.nbytes for tensor in inputs))

    def first(self) -> Work:
        """The work on the first copy alone: its inputs stay in the cache from call to call."""
        return replace(self, copies=self.copies[:1])


def check_rotation(work: Work) -> None:
    """Prove that ``call(i)`` works on copy ``i`` and that the copies are alike but apart.

    Each copy in turn is filled with NaN: the call must then either return something else than
    before (it read the copy) or leave the copy no longer all NaN (it wrote it). A look at the
    arguments would not do, since a closure may ignore them. The copies hold equal contents, of
    floating dtype, so the damaged one is restored from its neighbour.

    Raises:
        RotationDefeated: it does not, or copies share memory or differ in shape or strides.
    """
    _check_layout(work.copies)
    if len(work.copies) < 2:
        return
    for index, copy in enumerate(work.copies):
        expected = _snapshot(work.call(index))
        for tensor in copy:
            tensor.fill_(float("nan"))
        out = _snapshot(work.call(index))
        untouched = all(bool(tensor.isnan().all()) for tensor in copy)
        for tensor, source in zip(copy, work.copies[index - 1], strict=True):
            tensor.copy_(source)
        if untouched and _same(out, expected):
            raise RotationDefeated(f"call({index}) neither reads nor writes copy {index} of {len(work.copies)}")


def _check_layout(copies: Sequence[Sequence[Tensor]]) -> None:
    layout = [(tensor.shape, tensor.stride()) for tensor in copies[0]]
    spans = []
    for index, copy in enumerate(copies):
        if [(tensor.shape, tensor.stride()) for tensor in copy] != layout:
            raise RotationDefeated(f"copy {index} has other shapes or strides than copy 0")
        spans += [(tensor.data_ptr(), tensor.data_ptr() + tensor.nbytes, index) for tensor in copy]
    spans.sort()
    for (_, end, left), (start, _, right) in pairwise(spans):
        if start < end and left != right:
            raise RotationDefeated(f"copies {left} and {right} share memory")


def _snapshot(out: object) -> Tensor | None:
    import torch

    return out.clone() if isinstance(out, torch.Tensor) else None


def _same(out: Tensor | None, expected: Tensor | None) -> bool:
    """Bit for bit alike, NaN equal to NaN."""
    if out is None or expected is None:
        return out is expected
    return bool(((out == expected) | (out.isnan() & expected.isnan())).all())
