"""Every way in which the kernels are compiled, without a GPU: a recorder notes the launcher's launches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from impls.interface import PageCopy
from impls.kernels.heuristics import Tile
from impls.kernels.support import Device, KernelCache, load_kernels
from impls.launch.decoder import TritonDecoder
from impls.launch.plan import Contender, Planner
from impls.launch.prefill import Queries, prefill
from impls.launch.setup import Layer, Rows, Setup, Storage
from impls.spec import ModelSpec

if TYPE_CHECKING:
    from tests.proofs.machine_code import Launch, MachineCode

MULTIPROCESSORS = 132
"""Of an H100. The machine code does not depend on it, but the number of splits does."""
SEQ_LEN = 4096
SHARED_TOKENS = 1024
"""Tokens that the sequences of a cascade share."""
KERNELS = ("decode", "merge", "prefix", "prefill", "write", "copy_pages")


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A model's attention shape, a way to lay out its cache, and a target.

    Attributes:
        heads: query heads and KV heads.
        head_dim: elements per head.
        dtype: dtype of queries, and of K and V unless ``kv_dtype`` is set.
        kv_dtype: see ``ModelSpec``, as the next two.
        sliding_window: see there.
        soft_cap: see there.
        page_size: tokens per page. ``None`` for the control arm, which has no pages.
        kv_layout: ``NHD`` or ``HND``.
        capability: compute capability of the target, 90 for an H100.
        merge: see ``TritonDecoder``.
        is_split: whether a work list and its parts are compiled in. Otherwise each item is a sequence.
        extras: whether sinks, ALiBi and the log-sum-exp are compiled in.
    """

    heads: tuple[int, int]
    head_dim: int = 128
    dtype: str = "float16"
    kv_dtype: str | None = None
    sliding_window: int | None = None
    soft_cap: float | None = None
    page_size: int | None = 16
    kv_layout: str = "NHD"
    capability: int = 90
    merge: str = "after"
    is_split: bool = True
    extras: bool = False

    @property
    def model(self) -> ModelSpec:
        """The shape as a model of one layer."""
        return ModelSpec(
            name="variant",
            num_layers=1,
            num_query_heads=self.heads[0],
            num_kv_heads=self.heads[1],
            head_dim=self.head_dim,
            dtype=self.dtype,
            max_seq_len=SEQ_LEN,
            kv_dtype=self.kv_dtype,
            sliding_window=self.sliding_window,
            soft_cap=self.soft_cap,
        )

    @property
    def options(self) -> str:
        """Everything but the target, in words."""
        pages = "no pages" if self.page_size is None else f"page {self.page_size}"
        layout = "" if self.kv_layout == "NHD" else f" {self.kv_layout}"
        splits = "" if self.is_split else ", no splits"
        extras = ", sinks, ALiBi, LSE" if self.extras else ""
        merge = "" if self.merge == "after" else f", merge {self.merge}"
        return f"{self.model.attention}, {self.dtype}, {pages}{layout}{splits}{extras}{merge}"

    def __str__(self) -> str:
        return f"sm_{self.capability} {self.options}"


def compile_decode(variant: Variant) -> list[MachineCode]:
    """The decode kernel with every tile that ``tune`` may choose for this variant."""
    from tests.proofs.machine_code import assemble

    launches = _launches(variant)
    if variant.is_split != ("merge_kernel" in launches):
        raise ValueError(f"{variant}: is_split={variant.is_split}, but the launcher decides otherwise")
    return [assemble(launch, variant.capability) for launch in launches["decode_kernel"]]


def compile_others(variant: Variant, *names: str) -> list[MachineCode]:
    """Compile other kernels by their names, such as ``prefill_kernel`` or ``merge_kernel``."""
    from tests.proofs.machine_code import assemble

    launches = _launches(variant, SHARED_TOKENS if "prefix_kernel" in names else 0)
    return [assemble(launches[name][0], variant.capability) for name in names]


def tile_of(code: MachineCode) -> Tile:
    """The tile that a decode kernel was compiled for."""
    names = ("block_group", "block_dim", "block_tokens", "num_stages")
    return Tile(**{name: code.constants[name.upper()] for name in names}, num_warps=code.num_warps)


class _Recorder:
    """Replaces a kernel, and records ``kernel[grid](...)``."""

    def __init__(self, kernel: Any, launches: dict[str, list[Launch]]) -> None:
        self._kernel = kernel
        self._launches = launches

    def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., None]:
        from tests.proofs.machine_code import Launch

        def note(*arguments: object, **keywords: Any) -> None:
            self._launches.setdefault(self._kernel.__name__, []).append(Launch(self._kernel, arguments, keywords))

        return note


def _launches(variant: Variant, shared_tokens: int = 0) -> dict[str, list[Launch]]:
    """Note every launch of a variant: of each tile, or of a cascade if there are shared tokens."""
    launches: dict[str, list[Launch]] = {}
    kernels = load_kernels("the report")
    recorders: dict[str, Any] = {name: _Recorder(getattr(kernels, name), launches) for name in KERNELS}
    model, dtype = variant.model, getattr(torch, variant.dtype)
    setup = Setup(
        model=model,
        device=torch.device("cpu"),
        layout=_layout(variant),
        kernels=kernels._replace(**recorders),
        target=Device(multiprocessors=MULTIPROCESSORS, capability=variant.capability),
    )
    decoder, planner = TritonDecoder(setup, {"merge": variant.merge}), Planner(setup, None)
    layer, rows = _layer(variant), _rows(variant)
    new = torch.empty((1, model.num_kv_heads, model.head_dim), dtype=dtype)
    setup.write(layer, torch.zeros(1, dtype=torch.int64), new, new)
    query = torch.empty((1, model.num_query_heads, model.head_dim), dtype=dtype)
    lse = torch.empty(query.shape[:2]) if variant.extras else None
    for tile in decoder.tiles:
        contender = Contender(tile=tile, one_split=not variant.is_split)
        plan = planner.plan(contender, rows.host_lens)
        if shared_tokens:
            plan = planner.plan_cascade(contender, rows.host_lens, shared_tokens)
        decoder.attend(query, layer, rows, plan, lse)
    prefill(setup, query, layer, rows, Queries.of(setup, rows, [1]))
    storage = Storage(model, lambda: torch.empty(1, dtype=layer.keys.dtype), 1, setup.device)
    setup.copy_pages(storage.tensors, storage.tensors, [PageCopy(0, 0)])
    return launches


def _layout(variant: Variant) -> KernelCache:
    if variant.page_size is None:
        return KernelCache.of_slots(variant.model)
    return KernelCache.of_pages((1, variant.page_size, variant.heads[1], variant.head_dim), variant.kv_layout)


def _layer(variant: Variant) -> Layer:
    model = variant.model
    stored = torch.empty(1, dtype=getattr(torch, model.stored_dtype))
    scales = None if model.kv_dtype is None else torch.ones((2, model.num_kv_heads))
    per_head = torch.ones(model.num_query_heads) if variant.extras else None
    return Layer(keys=stored, values=stored, scales=scales, sinks=per_head, slopes=per_head)


def _rows(variant: Variant) -> Rows:
    lens = np.array([SEQ_LEN], dtype=np.int32)
    paged = torch.zeros((1, 1), dtype=torch.int32)
    table = torch.zeros(1, dtype=torch.int64) if variant.page_size is None else paged
    return Rows(table=table, seq_lens=torch.from_numpy(lens), host_lens=lens)
