"""Scenario ``capacity`` on the device: allocate and write all layers, and reconcile the bytes."""

from __future__ import annotations

import gc

import torch

from bench.config import Config
from bench.config.numbers import size_text
from bench.measure.memory.available import available_host_bytes
from bench.measure.memory.probe import MemoryProbe, Reading, pids_on_gpus
from bench.rows.result import Answer
from bench.scenarios.filling import Filled
from bench.scenarios.tensors.weighing import allocate_touched, check_storage, rehearsal, write_ones

DIFFERENCES = {
    "torch_difference_bytes": "torch_allocated_peak_bytes",
    "process_difference_bytes": "process_memory_rise_bytes",
    "device_difference_bytes": "device_memory_bytes",
}
"""Column of the difference from ``pool_bytes``: column of the physical level."""


def weigh(config: Config, filled: Filled) -> Answer:
    """Allocate, touch and write the cache of the whole model, and read memory on every level.

    Args:
        config: resolved.
        filled: the policy with its sequences.
    """
    known_pids = pids_on_gpus() if config.device == "cuda" else None
    small, two_tokens = rehearsal(config)
    write_ones(small, two_tokens, allocate_touched(small, two_tokens))
    gc.collect()
    pool_bytes = filled.policy.pool_bytes
    available = available_host_bytes() if config.device == "cpu" else None
    if available is not None and pool_bytes > available:
        # Linux grants more memory than it has, and kills the process that touches it.
        reason = f"the pool needs {size_text(pool_bytes)} and the host has {size_text(available)} available"
        return Answer(status="oom", status_reason=reason)
    probe = MemoryProbe(torch.device(config.device), known_pids=known_pids, poll_ms=config.measure.poll_ms)
    cache = allocate_touched(config, filled)
    write_ones(config, filled, cache)
    check_storage(cache)
    answer = reconcile(pool_bytes, probe.read())
    answer.values["logical_bytes"] = pool_bytes
    answer.values |= {"storage_bytes": cache.storage_bytes, "layers_allocated": len(cache.tensors) // 2}
    return answer


def reconcile(pool_bytes: int, reading: Reading) -> Answer:
    """Add every physical level and its difference from the policy's bytes, or the reason why there is none."""
    answer = Answer(values=dict(reading.values), null_reasons=dict(reading.null_reasons))
    for difference, level in DIFFERENCES.items():
        if level in reading.values:
            answer.values[difference] = reading.values[level] - pool_bytes
        else:
            answer.leave_null(reading.null_reasons[level], difference)
    return answer
