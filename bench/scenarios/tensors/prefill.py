"""Scenario ``prefill``: compute prompts, whole or one chunk of each, over K and V that are already cached.

Each point has two processes, like ``decode``. ``time_point`` checks against the reference and takes all
timings. ``weigh_point`` holds nothing but the cache and reads memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from bench.config import Config, build
from bench.config.scenarios import PrefillScenario
from bench.measure.timers.timing import choose_timer
from bench.rows.result import Answer
from bench.scenarios.bookkeeping import bookkeeping, digest
from bench.scenarios.filling import Filled, draw, fill
from bench.scenarios.tensors.decode_timing import seen_layer_bytes
from bench.scenarios.tensors.filled import Inputs, draw_inputs, held_by, make_cache, write_sequence
from bench.scenarios.tensors.grouped_check import check_grouped
from bench.scenarios.tensors.output_check import Audit, Variant, judge_outputs
from bench.scenarios.tensors.prefill_timing import PrefillStep, time_prefill
from bench.scenarios.tensors.timed import describe
from bench.scenarios.tensors.weighing import weigh
from impls.interface import KVCache, PrefillBatch, PrefillKVCache, Unsupported
from impls.reference import allowed_error, prefill_attention

CHECKED_QUERIES: Final = 256
"""Queries that the reference computes at once. Its scores are float32 for every query, head and token."""


def time_point(argument: Mapping[str, Any]) -> Answer:
    """Check one step, then time each of its operations.

    Args:
        argument: ``config`` (resolved, plain containers) and ``ceiling_gbps`` of this run.

    Raises:
        Unsupported: the implementation does not compute prompts.
    """
    config = build(argument["config"])
    filled = fill(config, *draw(config))
    num_queries = queries_of(config, filled)
    answer = Answer(values=bookkeeping(filled) | _asked(config, filled, num_queries))
    kv_bytes = seen_layer_bytes(config, filled, num_queries)
    query_bytes = sum(num_queries) * config.model.num_query_heads * config.model.head_dim * config.model.element_bytes
    choice = choose_timer(
        config.measure,
        torch.device(config.device),
        moved_bytes=kv_bytes + 2 * query_bytes,
        storage_bytes=filled.policy.pool_bytes // config.model.num_layers + query_bytes,
        ceiling_gbps=argument["ceiling_gbps"],
    )
    # The timer rotates among layers, which have equal contents at different addresses.
    cache = prefilling(
        make_cache(config, filled.policy, num_layers=max(config.layers_allocated, choice.copies)), config
    )
    inputs = draw_inputs(config, filled, sum(num_queries))
    held = held_by(cache, inputs, config)
    batch = cache.prepare_prefill(range(len(filled.seq_lens)), num_queries)
    newest = _write(cache, inputs, num_queries, batch)
    cache.tune_prefill(inputs.query, batch)
    describe(answer, cache, batch.metadata_bytes)
    variants = _check(answer, cache, held, num_queries, batch, config)
    if answer.status == "ok":
        check_grouped(answer, config, _check_small, whole_prompts=True)
    if answer.status == "ok":
        queries = inputs.query.expand(choice.copies, -1, -1, -1).clone()
        audit = Audit(queries=list(queries), variants=variants)
        step = PrefillStep(
            config=config,
            num_queries=num_queries,
            cache=cache,
            queries=queries,
            newest=newest,
            batch=batch,
            kv_bytes=kv_bytes,
            audit=audit,
        )
        for copies in (inputs, held):  # no longer needed after the reference, and they would use memory
            copies.keys.clear()
            copies.values.clear()
        time_prefill(answer, step, filled, choice, argument["ceiling_gbps"])
        audit.judge(answer)
    return answer


def queries_of(config: Config, filled: Filled) -> list[int]:
    """Return the number of query tokens of each sequence."""
    assert isinstance(config.scenario, PrefillScenario)
    return [config.scenario.num_queries(seq_len) for seq_len in filled.seq_lens.tolist()]


def prefilling(cache: KVCache, config: Config) -> PrefillKVCache:
    """Return the cache, as one that computes prompts.

    Raises:
        Unsupported: the cache does not compute prompts.
    """
    if not isinstance(cache, PrefillKVCache):
        raise Unsupported(f"{config.impl.name} computes no prompts: it has no prefill")
    return cache


def _asked(config: Config, filled: Filled, num_queries: Sequence[int]) -> dict[str, Any]:
    assert isinstance(config.scenario, PrefillScenario)
    return {
        "layers_allocated": config.layers_allocated,
        "chunk_tokens": config.scenario.chunk_tokens,
        "cached_tokens": config.scenario.cached_tokens,
        "prefill_tokens": sum(num_queries),
        "batch_digest": digest(np.concatenate([filled.seq_lens, num_queries])),
    }


def _write(cache: KVCache, inputs: Inputs, num_queries: Sequence[int], batch: PrefillBatch) -> tuple[Tensor, Tensor]:
    """Write the cached tokens, then the tokens of the step through its slot mapping. Return their K and V."""
    sequences = list(zip(inputs.keys, inputs.values, num_queries, strict=True))
    for seq_id, (keys, values, count) in enumerate(sequences):
        if count < len(keys):
            write_sequence(cache, seq_id, keys[:-count], values[:-count])
    newest = torch.cat([keys[-n:] for keys, _, n in sequences]), torch.cat([values[-n:] for _, values, n in sequences])
    for layer in range(len(cache.tensors) // 2):
        cache.write(layer, batch.slot_mapping, *newest)
    return newest


def _check(
    answer: Answer,
    cache: PrefillKVCache,
    held: Inputs,
    num_queries: Sequence[int],
    batch: PrefillBatch,
    config: Config,
) -> list[Variant]:
    """Compare one step of every layer with the float32 reference. A wrong result is never timed.

    Returns:
        Two contents of the queries with their references, for the checks during timing.
    """
    masking: dict[str, Any] = {"window": config.model.sliding_window, "soft_cap": config.model.soft_cap}
    variants = []
    for query in (held.query.clone(), held.query.flip(-1).contiguous()):
        blocks = _blocks(replace(held, query=query), num_queries)
        queries, keys, values = ([block[part] for block in blocks] for part in range(3))
        reference = prefill_attention(queries, keys, values, **masking)
        allowed = allowed_error(queries, keys, values, reference, **masking)
        variants.append(Variant(query=query, reference=reference, allowed=allowed))
    layers = range(len(cache.tensors) // 2)
    outputs = (cache.prefill(layer, held.query, batch) for layer in layers)
    judge_outputs(answer, outputs, held.query, variants[0].reference, variants[0].allowed)
    return variants


def _check_small(answer: Answer, cache: KVCache, held: Inputs, seq_lens: Sequence[int], config: Config) -> None:
    """Check whole prompts of a small cache, for ``check_grouped``."""
    prompts = prefilling(cache, config)
    batch = prompts.prepare_prefill(range(len(seq_lens)), seq_lens)
    prompts.tune_prefill(held.query, batch)
    _check(answer, prompts, held, seq_lens, batch, config)


def _blocks(held: Inputs, num_queries: Sequence[int]) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Yield a few queries at a time, in order, with K and V up to the last of them."""
    blocks = []
    for query, keys, values in zip(held.query.split(list(num_queries)), held.keys, held.values, strict=True):
        end = len(keys) - len(query)
        for block in query.split(CHECKED_QUERIES):
            end += len(block)
            blocks.append((block, keys[:end], values[:end]))
    return blocks


def weigh_point(argument: Mapping[str, Any]) -> Answer:
    """Read memory around allocating, touching, writing and computing, in a process that holds nothing else.

    Args:
        argument: ``config`` (resolved, plain containers).
    """
    return weigh(build(argument["config"]), _step)


def _step(config: Config, filled: Filled, cache: KVCache) -> None:
    cache = prefilling(cache, config)
    num_queries = queries_of(config, filled)
    batch = cache.prepare_prefill(range(len(filled.seq_lens)), num_queries)
    shape = (sum(num_queries), config.model.num_query_heads, config.model.head_dim)
    query = torch.ones(shape, dtype=getattr(torch, config.model.dtype), device=config.device)
    cache.tune_prefill(query, batch)
    cache.prefill(0, query, batch)
