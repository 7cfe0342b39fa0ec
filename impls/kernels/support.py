"""Limits of the kernels for a device and a model, and the tiles to choose from."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any, Final, NamedTuple

import torch

from impls.interface import Unsupported
from impls.kernels import heuristics
from impls.kernels.heuristics import Tile
from impls.spec import DTYPE_BYTES, ModelSpec
from impls.storage.slots import positive_option

TILE_OPTIONS: Final = {"block_tokens": (16, 256), "num_warps": (1, 16), "num_stages": (1, 8)}
"""Lowest and highest value of each option that sets the tile."""
MIN_CAPABILITY: Final = 80
"""From here on there are bfloat16 and asynchronous copies."""
MIN_OVERLAP_CAPABILITY: Final = 90
"""From here on a kernel can be launched before the one ahead of it ends."""
MIN_FP8_CAPABILITY: Final = 89
"""From here on processors convert e4m3."""


class Kernels(NamedTuple):
    """The kernels, compiled on demand, and whether they are interpreted instead."""

    decode: Any
    merge: Any
    prefix: Any
    prefill: Any
    write: Any
    copy_pages: Any
    are_interpreted: bool
    version: str  # of Triton


class Device(NamedTuple):
    """Facts of a device for the launch heuristic.

    Attributes:
        multiprocessors: how many it has.
        capability: compute capability, 90 for an H100.
    """

    multiprocessors: int
    capability: int


@dataclass(frozen=True, kw_only=True)
class KernelCache:
    """Layout of the elements of a cache: constants that the kernels are compiled for.

    Attributes:
        paged: whether slots are found through a page table. Else the slots of a sequence are contiguous.
        page_size: tokens per page. 0 if not ``paged``.
        page_stride: elements between pages. 0 if not ``paged``.
        token_stride: elements between neighbouring tokens.
        head_stride: elements between KV heads.
    """

    paged: bool
    page_size: int
    page_stride: int
    token_stride: int
    head_stride: int

    @classmethod
    def of_pages(cls, shape: tuple[int, int, int, int], kv_layout: str) -> KernelCache:
        """Return the layout of pages, NHD or HND, ``[num_pages, page_size, num_kv_heads, head_dim]``."""
        _, page_size, num_kv_heads, head_dim = shape
        is_nhd = kv_layout == "NHD"
        return cls(
            paged=True,
            page_size=page_size,
            page_stride=page_size * num_kv_heads * head_dim,
            token_stride=num_kv_heads * head_dim if is_nhd else head_dim,
            head_stride=head_dim if is_nhd else page_size * head_dim,
        )

    @classmethod
    def of_slots(cls, model: ModelSpec) -> KernelCache:
        """Return the layout of contiguous slots, ``[num_slots, num_kv_heads, head_dim]``."""
        token_stride = model.num_kv_heads * model.head_dim
        return cls(paged=False, page_size=0, page_stride=0, token_stride=token_stride, head_stride=model.head_dim)

    @cached_property
    def constants(self) -> dict[str, int | bool]:
        """Compile-time constants of the kernels."""
        return {name.upper(): value for name, value in asdict(self).items()}


def load_kernels(name: str) -> Kernels:
    """Import the kernels, and Triton with them, for the implementation of that name.

    Raises:
        Unsupported: Triton is not installed.
    """
    if importlib.util.find_spec("triton") is None:
        raise Unsupported(f"{name} needs the package triton, which is not installed")
    from impls.kernels.copy_pages import copy_pages_kernel
    from impls.kernels.decode import decode_kernel
    from impls.kernels.merge import merge_kernel
    from impls.kernels.prefill import prefill_kernel
    from impls.kernels.prefix import prefix_kernel
    from impls.kernels.runtime import INTERPRETED, VERSION
    from impls.kernels.write import write_kernel

    return Kernels(
        decode=decode_kernel,
        merge=merge_kernel,
        prefix=prefix_kernel,
        prefill=prefill_kernel,
        write=write_kernel,
        copy_pages=copy_pages_kernel,
        are_interpreted=INTERPRETED,
        version=VERSION,
    )


def describe_device(device: torch.device, name: str, *, are_interpreted: bool) -> Device:
    """Return the facts of the device for the launch heuristic. The interpreter runs one program at a time.

    Raises:
        Unsupported: no CUDA device, or one that is too old.
    """
    if are_interpreted:
        return Device(multiprocessors=1, capability=MIN_FP8_CAPABILITY)
    if device.type != "cuda":
        raise Unsupported(
            f"{name} needs a CUDA device; on {device.type} it runs only in Triton's interpreter (TRITON_INTERPRET=1)"
        )
    properties = torch.cuda.get_device_properties(device)
    capability = 10 * properties.major + properties.minor
    if capability < MIN_CAPABILITY:
        raise Unsupported(f"{name} needs compute capability 8.0; {properties.name} has less")
    return Device(multiprocessors=properties.multi_processor_count, capability=capability)


def check_shape(model: ModelSpec, name: str) -> None:
    """Refuse shapes that the kernels do not support.

    Raises:
        Unsupported: ``head_dim`` is out of range.
    """
    if not heuristics.MIN_HEAD_DIM <= model.head_dim <= heuristics.MAX_HEAD_DIM:
        allowed = f"{heuristics.MIN_HEAD_DIM} to {heuristics.MAX_HEAD_DIM}"
        raise Unsupported(f"{name} takes a head_dim of {allowed}, not {model.head_dim}")


def check_target(model: ModelSpec, name: str, device: Device) -> None:
    """Refuse a cache for which the device has no instructions.

    Raises:
        Unsupported: a quantised cache on a device that is too old.
    """
    if model.kv_dtype is not None and device.capability < MIN_FP8_CAPABILITY:
        major, minor = divmod(device.capability, 10)
        raise Unsupported(f"{name} stores {model.kv_dtype} from compute capability 8.9 on; this is {major}.{minor}")


def tiles_for(model: ModelSpec, options: Mapping[str, object]) -> list[Tile]:
    """Return the tiles to choose from, the default first. An option of the tile leaves one.

    Raises:
        ValueError: an option is out of range. The message names it.
    """
    tile = heuristics.default_tile(
        group_size=model.group_size, head_dim=model.head_dim, element_bytes=DTYPE_BYTES[model.dtype]
    )
    wanted = {name: positive_option(options, name, None) for name in TILE_OPTIONS}
    asked = {name: value for name, value in wanted.items() if value is not None}
    for name, value in asked.items():
        lowest, highest = TILE_OPTIONS[name]
        if not lowest <= value <= highest:
            raise ValueError(f"impl.options.{name}={value} must be from {lowest} to {highest}")
        if name != "num_stages" and value & (value - 1):
            raise ValueError(f"impl.options.{name}={value} must be a power of two")
    return [replace(tile, **asked)] if asked else heuristics.tile_contenders(tile, DTYPE_BYTES[model.dtype])
