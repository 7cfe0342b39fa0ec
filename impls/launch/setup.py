"""What every launch of our Triton kernels needs: the kernels, the device, the layout of K and V."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from impls.interface import PageCopy, Unsupported
from impls.kernels import heuristics
from impls.kernels.support import (
    Device,
    KernelCache,
    Kernels,
    check_shape,
    check_target,
    describe_device,
    load_kernels,
)
from impls.launch.tile_cache import kernels_digest
from impls.spec import ModelSpec, ceil_div


@dataclass(frozen=True, kw_only=True)
class Rows:
    """The sequences of a batch, as the kernels find them.

    Attributes:
        table: int32 ``[num_seqs, max_pages_per_seq]``, pages, or int64 ``[num_seqs]``, first slots.
        seq_lens: int32 ``[num_seqs]``.
        host_lens: the same in NumPy, so that nothing is read back from the device.
    """

    table: Tensor
    seq_lens: Tensor
    host_lens: NDArray[np.int32]


class Layer(NamedTuple):
    """One layer's storage and attention, in the order of the kernels' arguments.

    Attributes:
        keys: of the layout that the decoder was made for.
        values: as ``keys``.
        scales: float32 ``[2, num_kv_heads]`` of K and V, where the cache is quantised, else ``None``.
        sinks: float32 ``[num_query_heads]``, logits that join the softmax without a value, or ``None``.
        slopes: float32 ``[num_query_heads]``, of ALiBi, or ``None``.
    """

    keys: Tensor
    values: Tensor
    scales: Tensor | None
    sinks: Tensor | None = None
    slopes: Tensor | None = None

    @property
    def options(self) -> dict[str, bool]:
        """What is on of the attention, for the choice of a tile."""
        return {"sinks": self.sinks is not None, "alibi": self.slopes is not None}


class Storage:
    """K and V of some layers, and their scales where the cache is quantised.

    Args:
        model: shapes and dtype.
        make: makes one tensor of K or V.
        num_layers: layers that get storage.
        device: holds the scales.

    Attributes:
        tensors: K of each layer, then V of each layer.
    """

    def __init__(self, model: ModelSpec, make: Callable[[], Tensor], num_layers: int, device: torch.device) -> None:
        self.tensors: Sequence[Tensor] = [make() for _ in range(2 * num_layers)]
        is_quantised = model.kv_dtype is not None
        self._scales = torch.ones((num_layers, 2, model.num_kv_heads), device=device) if is_quantised else None
        self._sinks: list[Tensor | None] = [None] * num_layers
        self._slopes: Tensor | None = None
        self._num_query_heads = model.num_query_heads
        self._device = device

    @property
    def nbytes(self) -> int:
        """Bytes of K and V."""
        return sum(tensor.nbytes for tensor in self.tensors)

    @property
    def scales_bytes(self) -> int:
        """Bytes of one layer's scales."""
        return 0 if self._scales is None else self._scales[0].nbytes

    def layer(self, index: int) -> Layer:
        """One layer."""
        num_layers = len(self.tensors) // 2
        scales = None if self._scales is None else self._scales[index]
        keys, values = self.tensors[index], self.tensors[index + num_layers]
        return Layer(keys, values, scales, self._sinks[index], self._slopes)

    def set_scales(self, layer: int, k_scales: Tensor, v_scales: Tensor) -> None:
        """See ``QuantisedKVCache.set_scales``.

        Raises:
            Unsupported: the cache is not quantised.
        """
        if self._scales is None:
            raise Unsupported("a cache whose model has no kv_dtype has no scales to set")
        self._scales[layer] = torch.stack((k_scales, v_scales))

    def set_sinks(self, layer: int, sinks: Tensor | None) -> None:
        """See ``ExtendedKVCache.set_sinks``."""
        self._sinks[layer] = None if sinks is None else self._per_head("sinks", sinks)

    def set_alibi(self, slopes: Tensor | None) -> None:
        """See ``ExtendedKVCache.set_alibi``."""
        self._slopes = None if slopes is None else self._per_head("slopes", slopes)

    def _per_head(self, name: str, given: Tensor) -> Tensor:
        if tuple(given.shape) != (self._num_query_heads,):
            raise ValueError(f"{name} has shape {tuple(given.shape)}; it must be ({self._num_query_heads},)")
        if not bool(torch.isfinite(given).all()):
            raise ValueError(f"{name} must be finite")
        return given.to(self._device, torch.float32).clone()


def check_interpreter(triton: str, numpy: str) -> None:
    """Check that Triton's interpreter works with this NumPy.

    Args:
        triton: version of Triton.
        numpy: version of NumPy.

    Raises:
        Unsupported: before 3.7 the interpreter takes a loop's bounds in a way that NumPy 2.4 ended.
    """
    if _release(triton) < (3, 7) and _release(numpy) >= (2, 4):
        raise Unsupported(
            f"the interpreter of Triton {triton} fails with NumPy {numpy}; "
            "install numpy<2.4 or triton>=3.7, or run on a GPU, where any NumPy works"
        )


def _release(version: str) -> tuple[int, ...]:
    """Major and minor number of a version."""
    return tuple(int(part) for part in version.split(".")[:2])


@dataclass(frozen=True, kw_only=True)
class Setup:
    """The kernels for one model, one device and one way to lay out K and V.

    Attributes:
        model: shapes and dtype.
        device: a CUDA device, or any under Triton's interpreter.
        layout: addresses of elements.
        kernels: compiled on demand.
        target: what to launch for.
    """

    model: ModelSpec
    device: torch.device
    layout: KernelCache
    kernels: Kernels
    target: Device

    @classmethod
    def of(cls, model: ModelSpec, name: str, device: torch.device, layout: KernelCache) -> Setup:
        """What is there, for the implementation of that name.

        Raises:
            Unsupported: there is no Triton, or this device or shape cannot be served.
        """
        check_shape(model, name)
        kernels = load_kernels(name)
        if kernels.are_interpreted:
            check_interpreter(kernels.version, np.__version__)
        target = describe_device(device, name, are_interpreted=kernels.are_interpreted)
        check_target(model, name, target)
        return cls(model=model, device=device, layout=layout, kernels=kernels, target=target)

    @cached_property
    def scale(self) -> float:
        """Factor of the scores. The exponent of the kernels is base two."""
        return math.log2(math.e) / math.sqrt(self.model.head_dim)

    @cached_property
    def constants(self) -> dict[str, int | float | bool]:
        """Compile-time constants of the attention kernels, but for their tile."""
        return {
            "NUM_KV_HEADS": self.model.num_kv_heads,
            "GROUP_SIZE": self.model.group_size,
            "HEAD_DIM": self.model.head_dim,
            "WINDOW": self.model.sliding_window or 0,
            "SOFT_CAP": self.model.soft_cap or 0.0,
            **self.layout.constants,
        }

    @property
    def question(self) -> dict[str, object]:
        """Everything but the batch that the fastest tile may depend on."""
        on_cuda = self.device.type == "cuda"
        return {
            "device": torch.cuda.get_device_name(self.device) if on_cuda else self.device.type,
            "target": list(self.target),
            "triton": self.kernels.version,
            "torch": str(torch.__version__),
            "kernels": kernels_digest(),
            "attention": self.model.attention,
            "dtype": self.model.dtype,
            "layout": self.layout.constants,
        }

    def write(self, layer: Layer, slot_mapping: Tensor, keys: Tensor, values: Tensor) -> None:
        """Store K and V of some tokens in one layer. See ``KVCache.write``."""
        num_tokens, num_kv_heads, head_dim = keys.shape
        self.kernels.write[(num_tokens, ceil_div(num_kv_heads * head_dim, heuristics.WRITE_ELEMENTS))](
            layer.keys,
            layer.values,
            layer.scales,
            keys.contiguous(),
            values.contiguous(),
            slot_mapping,
            NUM_KV_HEADS=num_kv_heads,
            HEAD_DIM=head_dim,
            BLOCK_ELEMENTS=heuristics.WRITE_ELEMENTS,
            **self.layout.constants,
        )

    def copy_pages(self, sources: Sequence[Tensor], targets: Sequence[Tensor], copies: Sequence[PageCopy]) -> None:
        """Copy whole pages, with one launch per tensor. See ``page_moves.Move``."""
        pairs = torch.tensor(copies, dtype=torch.int64).to(self.device)
        block = heuristics.next_power_of_2(heuristics.COPY_BYTES // sources[0].element_size())
        page_elements = self.layout.page_stride
        for source, target in zip(sources, targets, strict=True):
            self.kernels.copy_pages[(len(copies), ceil_div(page_elements, block))](
                source, target, pairs, PAGE_ELEMENTS=page_elements, BLOCK_ELEMENTS=block
            )
