"""Scenario ``decode``: fill a cache to mid-decode, check one step, then time it and weigh it.

Two processes per point: ``time_point`` checks against the reference and takes all timings;
``weigh_point`` holds nothing but the cache and reads memory.
"""

from __future__ import annotations

import gc
import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from bench.answer import Answer
from bench.config import Config, build
from bench.intervals import median_interval
from bench.measure.host import pinned
from bench.measure.memory import MemoryProbe
from bench.measure.samples import Samples
from bench.measure.timing import Timer
from bench.scenarios.filling import Filled, draw, fill, new_policy
from bench.scenarios.tensors import Inputs, draw_inputs, make_cache, write_sequence
from impls.interface import Batch, KVCache, Policy
from impls.reference import allowed_error, decode_attention, max_rel_error
from impls.spec import DTYPE_BYTES

DETAILS = ("sdpa_backend", "sdpa_call", "bytes_read")


def time_point(argument: Mapping[str, Any]) -> Answer:
    """Check one decode step, then time every operation of it.

    Args:
        argument: ``config`` (resolved, plain containers) and ``ceiling_gbps`` of this run.
    """
    config = build(argument["config"])
    filled = fill(config, *draw(config))
    answer = Answer(values=bookkeeping(config, filled))
    cache = make_cache(config, filled.policy)
    inputs = draw_inputs(config, filled)
    for seq_id, (keys, values) in enumerate(zip(inputs.keys, inputs.values, strict=True)):
        write_sequence(cache, seq_id, keys, values)
    batch = cache.prepare(range(len(filled.seq_lens)))
    cache.tune(inputs.query, batch)
    _describe(answer, cache, batch)
    _check(answer, cache, inputs, batch)
    if answer.status == "ok":
        _time(answer, config, cache, filled, inputs, batch)
        _compare_with_ceiling(answer, config, batch, argument["ceiling_gbps"])
    return answer


def bookkeeping(config: Config, filled: Filled) -> dict[str, Any]:
    """What the policy alone knows: exact, on any machine."""
    head, lens = filled.head, filled.seq_lens
    usage = filled.policy.usage(int(filled.requests.prompt_lens[head]), int(filled.requests.final_lens[head]))
    parts = ("live", "reserved", "internal_fragmentation", "external_fragmentation", "cached", "free")
    return {
        "admitted_seqs": len(lens),
        "refused_seqs": filled.refused,
        "skipped_requests": filled.requests.skipped,
        "live_tokens": int(lens.sum()),
        "pool_bytes": usage.pool_bytes,
        **{f"{part}_bytes": getattr(usage, f"{part}_bytes") for part in (*parts, "shared_saved")},
        "largest_free_ratio": usage.largest_free_ratio,
        "layers_allocated": config.layers_allocated,
        "batch_digest": hashlib.sha256(lens.astype("<i8").tobytes()).hexdigest()[:12],
    }


def _describe(answer: Answer, cache: KVCache, batch: Batch) -> None:
    """Sizes of what was allocated, and what the implementation says of itself."""
    details = cache.details()
    answer.values |= {"storage_bytes": cache.storage_bytes, "metadata_bytes": batch.metadata_bytes}
    answer.values |= {name: details.get(name) for name in DETAILS}
    absent = [name for name in DETAILS if details.get(name) is None]
    answer.leave_null("the implementation has none", *absent)


def _check(answer: Answer, cache: KVCache, inputs: Inputs, batch: Batch) -> None:
    """Compare one step of every layer with the float32 reference; a wrong answer is never timed."""
    reference = decode_attention(inputs.query, inputs.keys, inputs.values)
    allowed = allowed_error(inputs.query, inputs.keys, inputs.values, reference)
    layers = range(len(cache.tensors) // 2)
    error = max(max_rel_error(cache.decode(layer, inputs.query, batch), reference) for layer in layers)
    answer.values |= {"max_rel_error": error, "allowed_rel_error": allowed}
    if not error <= allowed:
        answer.status = "incorrect"
        answer.status_reason = f"max_rel_error={error:.3g} is above the allowed {allowed:.3g}; nothing was timed"


def _time(answer: Answer, config: Config, cache: KVCache, filled: Filled, inputs: Inputs, batch: Batch) -> None:
    """Every operation of the step, each as samples; the row keeps the medians."""
    seq_ids = range(len(filled.seq_lens))
    new_keys, new_values = inputs.newest()
    query = inputs.query
    inputs.keys.clear()  # the reference is done; its copies would only compete for memory
    inputs.values.clear()
    timer = Timer(config.measure, query.device)
    samples = {
        "decode": timer.device_work(lambda: cache.decode(0, query, batch)),
        "append": timer.device_work(lambda: cache.write(0, batch.slot_mapping, new_keys, new_values)),
        "prepare": timer.host_work(lambda: cache.prepare(seq_ids)),
        "policy": _time_policy(config, filled, timer),
    }
    hot = timer.device_work_hot(lambda: cache.decode(0, query, batch))
    if hot is None:
        answer.leave_null("on a CPU decode_us is with warm caches already", "decode_hot_us")
    else:
        samples["decode_hot"] = hot
        answer.values["decode_hot_us"] = median_interval(hot.values_us).median
    _summarise(answer, samples, operations=3 * len(seq_ids))


def _time_policy(config: Config, filled: Filled, timer: Timer) -> Samples:
    """Admit, append to and free every sequence of the batch, on an empty policy of the same kind."""
    policy = new_policy(config, None)
    lens = filled.seq_lens.tolist()
    finals = np.maximum(filled.requests.final_lens[: len(lens)], filled.seq_lens + 1).tolist()
    with pinned():
        return timer.host_work(lambda: _cycle(policy, lens, finals))


def _cycle(policy: Policy, lens: list[int], finals: list[int]) -> None:
    for seq_id, (seq_len, final_len) in enumerate(zip(lens, finals, strict=True)):
        policy.admit(seq_id, max(seq_len - 1, 1), final_len)
    for seq_id in range(len(lens)):
        policy.append(seq_id)
    for seq_id in range(len(lens)):
        policy.free(seq_id)


def _summarise(answer: Answer, samples: Mapping[str, Samples], operations: int) -> None:
    decode = samples["decode"]
    low, median, high = median_interval(decode.values_us)
    answer.values |= {
        "decode_us": median,
        "decode_us_low": low,
        "decode_us_high": high,
        "decode_us_per_ktoken": 1000 * median / answer.values["live_tokens"],
        "decode_samples": len(decode.values_us),
        "decode_stop": decode.stop,
        "timer": decode.timer,
        "l2_mode": decode.l2_mode,
        "append_us": median_interval(samples["append"].values_us).median,
        "prepare_us": median_interval(samples["prepare"].values_us).median,
        "policy_ns_per_op": 1000 * median_interval(samples["policy"].values_us).median / operations,
    }
    answer.samples |= {name: taken.to_json() for name, taken in samples.items()}


def _compare_with_ceiling(answer: Answer, config: Config, batch: Batch, ceiling_gbps: float | None) -> None:
    """Achieved bandwidth from the bytes that any implementation must move, not those that this one does."""
    model, values = config.model, answer.values
    unique_live = values["live_bytes"] // model.num_layers
    queries_and_output = 2 * values["admitted_seqs"] * model.num_query_heads * model.head_dim * DTYPE_BYTES[model.dtype]
    moved = unique_live + queries_and_output + batch.metadata_bytes
    values["achieved_gbps"] = moved / values["decode_us"] / 1000
    if ceiling_gbps is None:
        answer.leave_null("the ceiling could not be measured; see the log", "ceiling_gbps", "ceiling_ratio")
    else:
        values |= {"ceiling_gbps": ceiling_gbps, "ceiling_ratio": values["achieved_gbps"] / ceiling_gbps}


def weigh_point(argument: Mapping[str, Any]) -> Answer:
    """Read memory around allocating, touching, writing and decoding; nothing else is held here.

    Args:
        argument: ``config`` (resolved, plain containers).
    """
    config = build(argument["config"])
    filled = fill(config, *draw(config))
    _warm_up(config)
    gc.collect()
    probe = MemoryProbe(torch.device(config.device))
    cache = make_cache(config, filled.policy)
    for tensor in cache.tensors:
        tensor.zero_()  # an untouched allocation has no resident memory
    _write_and_decode(config, filled, cache)
    reading = probe.read()
    return Answer(values=dict(reading.values), null_reasons=reading.null_reasons)


def _warm_up(config: Config) -> None:
    """Device context, kernels and libraries on two tokens, so that the idle reading contains them."""
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
    filled = Filled(policy=policy, seq_lens=np.array([2]), requests=draw(config)[0], prefix_tokens=0)
    _write_and_decode(small, filled, make_cache(small, policy))


def _write_and_decode(config: Config, filled: Filled, cache: KVCache) -> None:
    """One sequence at a time, so that the inputs weigh little beside the cache."""
    device, dtype = torch.device(config.device), getattr(torch, config.model.dtype)
    heads, head_dim = config.model.num_kv_heads, config.model.head_dim
    for seq_id, seq_len in enumerate(filled.seq_lens.tolist()):
        ones = torch.ones((seq_len, heads, head_dim), dtype=dtype, device=device)
        write_sequence(cache, seq_id, ones, ones)
    batch = cache.prepare(range(len(filled.seq_lens)))
    query = torch.ones((len(filled.seq_lens), config.model.num_query_heads, head_dim), dtype=dtype, device=device)
    cache.tune(query, batch)
    cache.decode(0, query, batch)
