"""The memory process: warm up, then allocate, touch and write the real cache, and read memory."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from bench.config import Config
from bench.measure.memory.probe import MemoryProbe, pids_on_gpus
from bench.measure.memory.resident import give_back_freed
from bench.rows.result import Answer, WrongOutput
from bench.scenarios.filling import Filled, draw, fill, new_policy
from bench.scenarios.tensors.filled import make_cache
from impls.interface import KVCache

COPY_TOKENS = 512
"""Tokens written at once, so that the inputs are small compared with the cache."""


def rehearsal(config: Config) -> tuple[Config, Filled]:
    """Return the point with one sequence of two tokens, so that an idle reading contains kernels and libraries."""
    model = replace(config.model, max_seq_len=2)
    small = replace(
        config,
        model=model,
        num_seqs=1,
        page_layout="contiguous",
        memory_budget=str(model.page_bytes(config.page_size) + model.max_seq_len * model.token_bytes),
        policy=replace(config.policy, watermark=0.0),
    )
    policy = new_policy(small, None)
    policy.admit(0, 2, 2)
    return small, Filled(policy=policy, seq_lens=np.array([2]), requests=draw(config)[0], prefix_tokens=0)


def weigh(config: Config, compute: Callable[[Config, Filled, KVCache], None]) -> Answer:
    """Read memory around allocating, touching, writing and computing, in a process that holds nothing else.

    Code that is loaded or compiled once is no part of the cache. Therefore a step of two tokens runs first, and on a
    CPU, where compiled code may depend on the size, a step of the whole batch. It reads unwritten storage, which a
    host does not back with memory.

    Args:
        config: resolved.
        compute: tunes and runs one step of a filled cache.
    """
    filled = fill(config, *draw(config))
    known_pids = pids_on_gpus() if config.device == "cuda" else None
    small, two_tokens = rehearsal(config)
    _write_and_compute(small, two_tokens, make_cache(small, two_tokens.policy), compute)
    if config.device == "cpu":
        compute(config, filled, make_cache(config, filled.policy))
    gc.collect()
    give_back_freed()
    probe = MemoryProbe(torch.device(config.device), known_pids=known_pids, poll_ms=config.measure.poll_ms)
    cache = allocate_touched(config, filled)
    _write_and_compute(config, filled, cache, compute)
    reading = probe.read()
    check_storage(cache)
    logical_bytes = filled.policy.pool_bytes // config.model.num_layers * config.layers_allocated
    return Answer(
        values={**reading.values, "storage_bytes": cache.storage_bytes, "logical_bytes": logical_bytes},
        null_reasons=reading.null_reasons,
        samples={"memory_poll": reading.poll} if reading.poll else {},
    )


def check_storage(cache: KVCache) -> None:
    """Check that the cache reports at least the bytes that its tensors hold.

    Raises:
        WrongOutput: it reports less.
    """
    held: Counter[int] = Counter()
    limit: dict[int, int] = {}
    for tensor in cache.tensors:  # K and V can be views of one storage
        storage = tensor.untyped_storage()
        held[storage.data_ptr()] += tensor.nbytes
        limit[storage.data_ptr()] = storage.nbytes()
    least = sum(min(count, limit[address]) for address, count in held.items())
    if cache.storage_bytes < least:
        raise WrongOutput(f"storage_bytes={cache.storage_bytes} must be at least the {least} bytes that tensors hold")


def _write_and_compute(
    config: Config, filled: Filled, cache: KVCache, compute: Callable[[Config, Filled, KVCache], None]
) -> None:
    write_ones(config, filled, cache)
    compute(config, filled, cache)


def allocate_touched(config: Config, filled: Filled) -> KVCache:
    """Return the cache with every byte touched, because an untouched allocation has no resident memory on a host."""
    cache = make_cache(config, filled.policy)
    for tensor in cache.tensors:
        tensor.zero_()
    return cache


def write_ones(config: Config, filled: Filled, cache: KVCache) -> None:
    """Write K and V of every token of every sequence into every allocated layer, a chunk at a time."""
    shape = (COPY_TOKENS, config.model.num_kv_heads, config.model.head_dim)
    ones = torch.ones(shape, dtype=getattr(torch, config.model.dtype), device=config.device)
    for seq_id, seq_len in enumerate(filled.seq_lens.tolist()):
        for start in range(0, seq_len, COPY_TOKENS):
            stop = min(start + COPY_TOKENS, seq_len)
            slots = torch.tensor(cache.policy.slots(seq_id, start, stop), dtype=torch.int64, device=config.device)
            for layer in range(len(cache.tensors) // 2):
                cache.write(layer, slots, ones[: stop - start], ones[: stop - start])
