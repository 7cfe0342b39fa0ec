"""Scenario ``decode``: fill a cache to mid-decode, check one step, then time it and measure its memory.

Each point has two processes. ``time_point`` checks against the reference and takes all timings.
``weigh_point`` holds nothing but the cache and reads memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from bench.config import Config, build
from bench.measure.timers.timing import choose_timer
from bench.rows.result import Answer
from bench.scenarios.bookkeeping import bookkeeping
from bench.scenarios.filling import Filled, draw, fill
from bench.scenarios.tensors.decode_timing import DecodeStep, moved_bytes, seen_layer_bytes, time_step
from bench.scenarios.tensors.filled import Inputs, draw_inputs, held_by, make_cache, write_sequence
from bench.scenarios.tensors.grouped_check import check_grouped
from bench.scenarios.tensors.output_check import Audit, Variant, judge_outputs
from bench.scenarios.tensors.timed import compare_with_ceiling, describe
from bench.scenarios.tensors.weighing import weigh
from impls.interface import Batch, KVCache
from impls.reference import allowed_error, decode_attention
from impls.spec import ModelSpec


def time_point(argument: Mapping[str, Any]) -> Answer:
    """Check one decode step, then time each of its operations.

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
    # The timer rotates among layers, which have equal contents at different addresses.
    cache = make_cache(config, filled.policy, num_layers=max(config.layers_allocated, choice.copies))
    inputs = draw_inputs(config, filled)
    held = held_by(cache, inputs, config)
    for seq_id, (keys, values) in enumerate(zip(inputs.keys, inputs.values, strict=True)):
        write_sequence(cache, seq_id, keys, values)
    batch = cache.prepare(range(len(filled.seq_lens)))
    cache.tune(inputs.query, batch)
    describe(answer, cache, batch.metadata_bytes)
    variants = _check(answer, cache, held, batch, config.model)
    if answer.status == "ok":
        check_grouped(answer, config, _check_small)
    if answer.status == "ok":
        audit = Audit(queries=[inputs.query], variants=variants)
        step = DecodeStep(
            config=config,
            filled=filled,
            cache=cache,
            query=inputs.query,
            newest=inputs.newest(),
            batch=batch,
            audit=audit,
        )
        for copies in (inputs, held):  # no longer needed after the reference, and they would use memory
            copies.keys.clear()
            copies.values.clear()
        time_step(answer, step, choice)
        audit.judge(answer)
        ceiling = argument["ceiling_gbps"]
        compare_with_ceiling(answer, moved_bytes(step), answer.values["decode_us"], ceiling, step.query.device)
    return answer


def _check(answer: Answer, cache: KVCache, held: Inputs, batch: Batch, model: ModelSpec) -> list[Variant]:
    """Compare one step of every layer with the float32 reference. A wrong result is never timed.

    Returns:
        Two contents of the query with their references, for the checks during timing.
    """
    masking: dict[str, Any] = {"window": model.sliding_window, "soft_cap": model.soft_cap}
    variants = []
    for query in (held.query.clone(), held.query.flip(-1).contiguous()):
        reference = decode_attention(query, held.keys, held.values, **masking)
        allowed = allowed_error(query, held.keys, held.values, reference, **masking)
        variants.append(Variant(query=query, reference=reference, allowed=allowed))
    layers = range(len(cache.tensors) // 2)
    outputs = (cache.decode(layer, held.query, batch) for layer in layers)
    judge_outputs(answer, outputs, held.query, variants[0].reference, variants[0].allowed)
    return variants


def _check_small(answer: Answer, cache: KVCache, held: Inputs, seq_lens: Sequence[int], config: Config) -> None:
    """Check one step of a small cache, for ``check_grouped``."""
    batch = cache.prepare(range(len(seq_lens)))
    cache.tune(held.query, batch)
    _check(answer, cache, held, batch, config.model)


def weigh_point(argument: Mapping[str, Any]) -> Answer:
    """Read memory around allocating, touching, writing and decoding, in a process that holds nothing else.

    Args:
        argument: ``config`` (resolved, plain containers).
    """
    return weigh(build(argument["config"]), _step)


def _step(config: Config, filled: Filled, cache: KVCache) -> None:
    batch = cache.prepare(range(len(filled.seq_lens)))
    shape = (len(filled.seq_lens), config.model.num_query_heads, config.model.head_dim)
    query = torch.ones(shape, dtype=getattr(torch, config.model.dtype), device=config.device)
    cache.tune(query, batch)
    cache.decode(0, query, batch)
