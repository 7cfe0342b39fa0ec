"""Make tensors for a filled policy: the implementation under test, and seeded K, V and queries."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bench.config import Config
from bench.scenarios.filling import Filled
from impls.interface import KVCache, Policy, QuantisedKVCache, Unsupported
from impls.spec import ModelSpec


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """The inputs of one step, and the expected contents of the cache.

    Attributes:
        query: ``[num_seqs, num_query_heads, head_dim]``. In a prefill step, the queries of all sequences.
        keys: per sequence ``[seq_len, num_kv_heads, head_dim]``.
        values: as ``keys``.
    """

    query: Tensor
    keys: list[Tensor]
    values: list[Tensor]

    def newest(self) -> tuple[Tensor, Tensor]:
        """Return K and V of each sequence's newest token, each ``[num_seqs, num_kv_heads, head_dim]``."""
        return torch.stack([keys[-1] for keys in self.keys]), torch.stack([values[-1] for values in self.values])


def make_cache(
    config: Config, policy: Policy, model: ModelSpec | None = None, num_layers: int | None = None
) -> KVCache:
    """Return an instance of ``impl.target``.

    Args:
        config: gives the implementation.
        policy: the policy of the cache.
        model: replaces the model of the configuration.
        num_layers: layers with storage, instead of the configured number.

    Raises:
        Unsupported: the implementation cannot do this case here.
    """
    module, _, name = config.impl.target.rpartition(".")
    make = getattr(importlib.import_module(module), name)
    cache: KVCache = make(
        model or config.model,
        policy,
        device=config.device,
        num_layers=config.layers_allocated if num_layers is None else num_layers,
        options=config.impl.options,
    )
    return cache


def draw_inputs(config: Config, filled: Filled, num_queries: int | None = None) -> Inputs:
    """Return standard normal K, V and queries. Sequences with the shared prefix begin with equal tokens.

    Args:
        config: resolved.
        filled: the sequences.
        num_queries: queries of all sequences together. One per sequence if ``None``.
    """
    generator = torch.Generator(device=config.device).manual_seed(config.seed)
    drawn = list(_drawn(config, filled, generator))
    query = _normal(num_queries or len(filled.seq_lens), config.model.num_query_heads, config, generator)
    return Inputs(query=query, keys=[keys for keys, _ in drawn], values=[values for _, values in drawn])


def held_by(cache: KVCache, inputs: Inputs, config: Config) -> Inputs:
    """Return the inputs as the cache stores them. For a quantised cache, set its scales and return rounded values.

    The scale of a head maps its largest K or V, over all sequences, to the largest number of ``kv_dtype``.

    Raises:
        Unsupported: the model has a ``kv_dtype``, and the cache does not support scales.
    """
    if config.model.kv_dtype is None:
        return inputs
    if not isinstance(cache, QuantisedKVCache):
        raise Unsupported(f"{config.impl.name} takes no scales for model.kv_dtype={config.model.kv_dtype}")
    dtype: torch.dtype = getattr(torch, config.model.kv_dtype)
    scales = [_scales(rows, dtype) for rows in (inputs.keys, inputs.values)]
    for layer in range(len(cache.tensors) // 2):
        cache.set_scales(layer, *scales)
    keys, values = (
        [_rounded(one, scale, dtype) for one in rows]
        for rows, scale in zip((inputs.keys, inputs.values), scales, strict=True)
    )
    return Inputs(query=inputs.query, keys=keys, values=values)


def _scales(rows: Sequence[Tensor], dtype: torch.dtype) -> Tensor:
    """Return the scales, float32 ``[num_kv_heads]``."""
    largest = torch.stack([one.float().abs().amax(dim=(0, 2)) for one in rows]).amax(dim=0)
    return largest / torch.finfo(dtype).max


def _rounded(rows: Tensor, scales: Tensor, dtype: torch.dtype) -> Tensor:
    """Return rows rounded by a quantised cache, in float32."""
    units = scales[:, None]
    largest = torch.finfo(dtype).max
    return (rows.float() / units).clamp(-largest, largest).to(dtype).float() * units


def _drawn(config: Config, filled: Filled, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    heads, prefix = config.model.num_kv_heads, filled.prefix_tokens
    shared = [_normal(prefix, heads, config, generator) for _ in range(2)]
    for index, seq_len in enumerate(filled.seq_lens.tolist()):
        pair = [_normal(seq_len, heads, config, generator) for _ in range(2)]
        if filled.shares_prefix(index):
            for tensor, start in zip(pair, shared, strict=True):
                tensor[:prefix] = start
        yield pair[0], pair[1]


def _normal(tokens: int, heads: int, config: Config, generator: torch.Generator) -> Tensor:
    shape = (tokens, heads, config.model.head_dim)
    dtype = getattr(torch, config.model.dtype)
    return torch.randn(shape, dtype=dtype, device=config.device, generator=generator)


def write_sequence(cache: KVCache, seq_id: int, keys: Tensor, values: Tensor) -> None:
    """Write a whole sequence into every allocated layer."""
    slots = torch.tensor(cache.policy.slots(seq_id, 0, len(keys)), dtype=torch.int64, device=keys.device)
    for layer in range(len(cache.tensors) // 2):
        cache.write(layer, slots, keys, values)
