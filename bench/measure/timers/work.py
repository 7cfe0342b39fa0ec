"""The work that a timer calls: it rotates among copies of its inputs, and a check proves it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


class RotationDefeated(RuntimeError):
    """A call did not touch the requested copy of its inputs, so it would be timed with a warm cache."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """The same work on any of several copies of its inputs.

    A call without arguments would always use the same copy. Therefore a call receives the index
    of its copy, and ``check_rotation`` proves that it uses that copy.

    Attributes:
        call: does the work on copy ``index``.
        copies: for each copy, the tensors that ``call(index)`` reads or writes.
        bytes_per_call: bytes of a copy that one call touches.
        after_sample: called after each sample, outside of the timing.
    """

    call: Callable[[int], object]
    copies: Sequence[Sequence[Tensor]]
    bytes_per_call: int
    after_sample: Callable[[], None] | None = None

    @classmethod
    def of_one(cls, call: Callable[[], object], *inputs: Tensor) -> Work:
        """Return work on a single copy of its inputs. It touches all of them."""
        return cls(call=lambda index: call(), copies=[inputs], bytes_per_call=sum(tensor.nbytes for tensor in inputs))

    def first(self) -> Work:
        """Return the work on the first copy alone, whose inputs stay in the cache between calls."""
        return replace(self, copies=self.copies[:1])


def check_rotation(work: Work) -> None:
    """Prove that ``call(i)`` works on copy ``i``, and that the copies are equal and do not overlap.

    Each copy is filled with NaN. Then the call must either return another result than before (it
    read the copy) or overwrite some NaN (it wrote the copy). Checking the arguments is not enough,
    because a closure may ignore them. The copies have equal contents of a floating dtype, so the
    damaged copy is restored from its neighbour.

    Raises:
        RotationDefeated: the call uses another copy, or copies share memory or differ in shape or strides.
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
    """Return whether both are equal bit for bit, with NaN equal to NaN."""
    if out is None or expected is None:
        return out is expected
    return bool(((out == expected) | (out.isnan() & expected.isnan())).all())
