"""Batches for the steps that use no sweep: shapes, a cache that holds them, the reference beside it."""

from __future__ import annotations

import importlib
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from impls.interface import POLICY_KINDS, KVCache, PolicyKind
from impls.policies import make_policy
from impls.spec import ModelSpec, ceil_div

ARMS = {"paged_triton": ("impls.caches.paged_triton.PagedTriton", "paged"),
        "triton_contiguous": ("impls.caches.triton_contiguous.TritonContiguous", "reserved_oracle")}  # fmt: skip
"""Class and policy of each Triton arm."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """One batch.

    Attributes:
        name: what reports call it.
        lens: tokens of each sequence, the newest included.
        heads: query heads, KV heads.
        head_dim: elements per head.
        dtype: of queries, and of K and V unless ``semantics`` has a ``kv_dtype``.
        page_size: tokens per page.
        options: of the implementation.
        semantics: ``kv_dtype``, ``sliding_window``, ``soft_cap``.
        num_queries: newest tokens of each sequence that are query tokens. ``None``: one decode step.
    """

    name: str
    lens: tuple[int, ...]
    heads: tuple[int, int] = (32, 8)
    head_dim: int = 128
    dtype: str = "float16"
    page_size: int = 16
    options: Mapping[str, Any] = field(default_factory=dict)
    semantics: Mapping[str, Any] = field(default_factory=dict)
    num_queries: tuple[int, ...] | None = None

    @property
    def model(self) -> ModelSpec:
        """The model of that shape, with one layer."""
        return ModelSpec(
            name=self.name,
            num_layers=1,
            num_query_heads=self.heads[0],
            num_kv_heads=self.heads[1],
            head_dim=self.head_dim,
            dtype=self.dtype,
            max_seq_len=max(self.lens),
            **self.semantics,
        )


def make_cache(shape: Shape, arm: str, device: str, num_layers: int = 1) -> KVCache:
    """A cache whose policy holds the batch, on shuffled pages. No K or V is written yet."""
    target, policy_name = ARMS[arm]
    model, page_size = shape.model, shape.page_size
    num_pages = sum(ceil_div(length, page_size) for length in shape.lens) + 3
    by_region = POLICY_KINDS[policy_name] is PolicyKind.RESERVED
    budget = model.token_bytes * sum(shape.lens) if by_region else num_pages * model.page_bytes(page_size)
    order = None if by_region else random.Random(0).sample(range(num_pages), num_pages)
    policy = make_policy(policy_name, model=model, budget_bytes=budget, page_size=page_size, free_order=order)
    for seq_id, length in enumerate(shape.lens):
        policy.admit(seq_id, length, length)
    module, _, name = target.rpartition(".")
    options = {key: value for key, value in shape.options.items() if not by_region or key != "kv_layout"}
    make = getattr(importlib.import_module(module), name)
    cache: KVCache = make(model, policy, device=device, num_layers=num_layers, options=options)
    return cache


def write(cache: KVCache, keys: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    """Write every sequence into every layer."""
    for seq_id, (key, value) in enumerate(zip(keys, values, strict=True)):
        slots = torch.tensor(cache.policy.slots(seq_id, 0, len(key)), dtype=torch.int64, device=key.device)
        for layer in range(len(cache.tensors) // 2):
            cache.write(layer, slots, key, value)


def draw(shape: Shape, device: str) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """Standard normal queries, K and V of one batch."""
    generator = torch.Generator(device=device).manual_seed(0)
    dtype = getattr(torch, shape.dtype)

    def normal(tokens: int, heads: int) -> Tensor:
        return torch.randn((tokens, heads, shape.head_dim), dtype=dtype, device=device, generator=generator)

    keys = [normal(length, shape.heads[1]) for length in shape.lens]
    values = [normal(length, shape.heads[1]) for length in shape.lens]
    num_queries = len(shape.lens) if shape.num_queries is None else sum(shape.num_queries)
    return normal(num_queries, shape.heads[0]), keys, values


RAGGED = (1, 15, 16, 17, 100, 255, 256, 257, 1000, 2048, 4097, 8192)
SHAPES: tuple[Shape, ...] = (
    Shape(name="gqa_fp16", lens=RAGGED),
    Shape(name="gqa_bf16", lens=RAGGED, dtype="bfloat16"),
    Shape(name="mha_fp16", lens=RAGGED, heads=(40, 40)),
    Shape(name="page_1", lens=RAGGED, page_size=1),
    Shape(name="page_64", lens=RAGGED, page_size=64),
    Shape(name="page_256", lens=RAGGED, page_size=256),
    Shape(name="hnd", lens=RAGGED, options={"kv_layout": "HND"}),
    Shape(name="fp8_e4m3", lens=RAGGED, semantics={"kv_dtype": "float8_e4m3fn"}),
    Shape(name="fp8_e4m3_mha", lens=RAGGED, heads=(16, 16), semantics={"kv_dtype": "float8_e4m3fn"}),
    Shape(name="window", lens=RAGGED, semantics={"sliding_window": 1000}),
    Shape(name="soft_cap", lens=RAGGED, semantics={"soft_cap": 30.0}),
    Shape(name="skew", lens=(65536, *([512] * 63))),
    Shape(name="one_long", lens=(131072,)),
    Shape(name="float32", lens=RAGGED, heads=(8, 2), head_dim=64, dtype="float32"),
    Shape(name="head_80", lens=RAGGED, heads=(12, 12), head_dim=80),
    Shape(name="head_256", lens=RAGGED, heads=(16, 4), head_dim=256, dtype="bfloat16"),
    Shape(name="group_16", lens=RAGGED, heads=(64, 4)),
    Shape(name="prefill", lens=(1, 17, 300, 1024, 4096), num_queries=(1, 17, 300, 1000, 96)),
)
"""What the ``check`` step compares with the reference, on both arms."""

FLAGSHIP = Shape(name="32 x 8192", lens=(8192,) * 32)
BATCHES: tuple[Shape, ...] = (
    FLAGSHIP,
    Shape(name="32 x 1024", lens=(1024,) * 32),
    Shape(name="1 x 8192", lens=(8192,)),
    Shape(name="skew: 1 x 65536 + 63 x 512", lens=(65536, *([512] * 63))),
)
"""What the ``tiles`` step times."""
SMALL_BATCHES = (Shape(name="2 x 64", lens=(64, 64), heads=(4, 2), head_dim=32, dtype="float32"),)
"""What a rehearsal on a CPU times instead."""
SMALL_SHAPES = (Shape(name="small", lens=(1, 17, 40), heads=(4, 2), head_dim=32, dtype="float32"),)
"""What a rehearsal on a CPU checks instead."""
