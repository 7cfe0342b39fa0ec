"""Scenario ``decode``: fill a cache to mid-decode, check one step, then time it and weigh it.

Two processes per point: ``time_point`` checks against the reference and takes all timings;
``weigh_point`` holds nothing but the cache and reads memory.
"""

from __future__ import annotations

import gc
from collections.abc import Mapping
from typing import Any

import torch

from bench.answer import Answer
from bench.config import Config, build
from bench.measure.memory import MemoryProbe, pids_on_gpus
from bench.measure.timing import choose_timer
from bench.scenarios.bookkeeping import bookkeeping
from bench.scenarios.decode_timing import Step, compare_with_ceiling, seen_layer_bytes, time_step
from bench.scenarios.filling import Filled, draw, fill
from bench.scenarios.tensors import Inputs, draw_inputs, held_by, make_cache, write_sequence
from bench.scenarios.weighing import allocate_touched, rehearsal, write_ones
from impls.interface import Batch, KVCache
from impls.reference import allowed_error, decode_attention, max_rel_error
from impls.spec import ModelSpec

DETAILS = ("sdpa_backend", "sdpa_call", "kernel_choice", "bytes_read")


def time_point(argument: Mapping[str, Any]) -> Answer:
    """Check one decode step, then time every operation of it.

    Args:
        argument: ``config`` (resolved, plain containers) and ``ceiling_gbps`` of this run.
    """
    config = build(argument["config"])
    filled = fill(config, *draw(config))
    answer = Answer(values=bookkeeping(filled) | {"layers_allocated": config.layers_allocated})
    choice = choose_timer(
        config.measure,
        torch.device(config.device),
        moved_bytes=seen_layer_bytes(config, filled),
        storage_bytes=filled.policy.pool_bytes // config.model.num_layers,
        ceiling_gbps=argument["ceiling_gbps"],
    )
    # The timer rotates among layers: they hold the same, each at its own address.
    cache = make_cache(config, filled.policy, num_layers=max(config.layers_allocated, choice.copies))
    inputs = draw_inputs(config, filled)
    held = held_by(cache, inputs, config)
    for seq_id, (keys, values) in enumerate(zip(inputs.keys, inputs.values, strict=True)):
        write_sequence(cache, seq_id, keys, values)
    batch = cache.prepare(range(len(filled.seq_lens)))
    cache.tune(inputs.query, batch)
    _describe(answer, cache, batch)
    _check(answer, cache, held, batch, config.model)
    if answer.status == "ok":
        step = Step(
            config=config,
            filled=filled,
            cache=cache,
            query=inputs.query,
            newest=inputs.newest(),
            batch=batch,
        )
        for copies in (inputs, held):  # the reference is done; they would only compete for memory
            copies.keys.clear()
            copies.values.clear()
        time_step(answer, step, choice)
        compare_with_ceiling(answer, step, argument["ceiling_gbps"])
    return answer


def _describe(answer: Answer, cache: KVCache, batch: Batch) -> None:
    """What the implementation says of itself and of the batch."""
    details = cache.details()
    answer.values["metadata_bytes"] = batch.metadata_bytes
    answer.values |= {name: details.get(name) for name in DETAILS}
    absent = [name for name in DETAILS if details.get(name) is None]
    answer.leave_null("the implementation has none", *absent)


def _check(answer: Answer, cache: KVCache, held: Inputs, batch: Batch, model: ModelSpec) -> None:
    """Compare one step of every layer with the float32 reference; a wrong answer is never timed."""
    masking: dict[str, Any] = {"window": model.sliding_window, "soft_cap": model.soft_cap}
    reference = decode_attention(held.query, held.keys, held.values, **masking)
    allowed = allowed_error(held.query, held.keys, held.values, reference, **masking)
    layers = range(len(cache.tensors) // 2)
    error = max(max_rel_error(cache.decode(layer, held.query, batch), reference) for layer in layers)
    answer.values |= {"max_rel_error": error, "allowed_rel_error": allowed}
    if not error <= allowed:
        answer.status = "incorrect"
        answer.status_reason = f"max_rel_error={error:.3g} is above the allowed {allowed:.3g}; nothing was timed"


def weigh_point(argument: Mapping[str, Any]) -> Answer:
    """Read memory around allocating, touching, writing and decoding; nothing else is held here.

    Args:
        argument: ``config`` (resolved, plain containers).
    """
    config = build(argument["config"])
    filled = fill(config, *draw(config))
    known_pids = pids_on_gpus() if config.device == "cuda" else None
    small, two_tokens = rehearsal(config)
    _write_and_decode(small, two_tokens, make_cache(small, two_tokens.policy))
    gc.collect()
    probe = MemoryProbe(torch.device(config.device), known_pids=known_pids, poll_ms=config.measure.poll_ms)
    cache = allocate_touched(config, filled)
    _write_and_decode(config, filled, cache)
    reading = probe.read()
    logical_bytes = filled.policy.pool_bytes // config.model.num_layers * config.layers_allocated
    return Answer(
        values={**reading.values, "storage_bytes": cache.storage_bytes, "logical_bytes": logical_bytes},
        null_reasons=reading.null_reasons,
        samples={"memory_poll": reading.poll} if reading.poll else {},
    )


def _write_and_decode(config: Config, filled: Filled, cache: KVCache) -> None:
    write_ones(config, filled, cache)
    batch = cache.prepare(range(len(filled.seq_lens)))
    shape = (len(filled.seq_lens), config.model.num_query_heads, config.model.head_dim)
    query = torch.ones(shape, dtype=getattr(torch, config.model.dtype), device=config.device)
    cache.tune(query, batch)
    cache.decode(0, query, batch)
