"""Shared parts of the timed scenarios: the check before timing, and columns from samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from bench.measure.intervals import median_interval, rel_spread
from bench.measure.machine.caches import last_level_cache_bytes
from bench.measure.machine.fitness import doubts, fitness_columns, sample_doubts
from bench.measure.machine.host_state import usable_cores
from bench.measure.machine.telemetry import Telemetry
from bench.measure.samples import Samples
from bench.measure.timers.timing import Timer
from bench.measure.timers.work import Work
from bench.rows.result import Answer
from impls.interface import KVCache

DETAILS = ("sdpa_backend", "sdpa_call", "kernel_choice", "bytes_read")


def describe(answer: Answer, cache: KVCache, metadata_bytes: int) -> None:
    """Add the facts that the implementation reports about itself and the batch."""
    details = cache.details()
    answer.values["metadata_bytes"] = metadata_bytes
    answer.values |= {name: details.get(name) for name in DETAILS}
    absent = [name for name in DETAILS if details.get(name) is None]
    answer.leave_null("the implementation has none", *absent)


def layer_copies(cache: KVCache, count: int) -> Sequence[tuple[Tensor, ...]]:
    """Return K and V of the first layers, as copies of the inputs that a timer rotates among."""
    tensors = cache.tensors
    return [(tensors[layer], tensors[len(tensors) // 2 + layer]) for layer in range(count)]


def append_work(cache: KVCache, slot_mapping: Tensor, newest: tuple[Tensor, Tensor], copies: int) -> Work:
    """Return the work of writing K and V of some tokens into one layer.

    Args:
        cache: cache whose layers are copies to rotate among.
        slot_mapping: the slot of each token.
        newest: their K and V.
        copies: number of layers to rotate among.
    """
    keys, values = newest
    return Work(
        call=lambda layer: cache.write(layer, slot_mapping, keys, values),
        copies=layer_copies(cache, copies),
        bytes_per_call=2 * (keys.nbytes + values.nbytes),
    )


def median_us(samples: Samples) -> float:
    """Return the median of some samples."""
    return median_interval(samples.values_us).median


def add_main(answer: Answer, name: str, samples: Samples) -> None:
    """Add the columns of the main quantity of a scenario: ``<name>_us`` and how it was measured."""
    low, median, high = median_interval(samples.values_us)
    answer.values |= {
        f"{name}_us": median,
        f"{name}_us_low": low,
        f"{name}_us_high": high,
        f"{name}_us_min": min(samples.values_us),
        f"{name}_spread_ratio": rel_spread(samples.values_us),
        f"{name}_samples": len(samples.values_us),
        f"{name}_sample_calls": samples.calls_per_sample,
        f"{name}_warmup_calls": samples.warmup_calls,
        f"{name}_stop": samples.stop,
        f"{name}_enqueue_us": samples.launch_us,
        "launch_bound": samples.launch_bound,
        "timer": samples.timer,
        "l2_mode": samples.l2_mode,
    }
    if samples.launch_us is None:
        answer.leave_null("on a CPU nothing is enqueued", f"{name}_enqueue_us", "launch_bound")


def add_hot(answer: Answer, name: str, timer: Timer, work: Work) -> dict[str, Samples]:
    """Add column ``<name>_hot_us``, measured with warm caches. Return its samples by name."""
    hot = timer.device_work_hot(work)
    if hot is None:
        answer.leave_null(f"on a CPU {name}_us is already measured with warm caches", f"{name}_hot_us")
        return {}
    answer.values[f"{name}_hot_us"] = median_us(hot)
    return {f"{name}_hot": hot}


def add_fitness(answer: Answer, samples: Mapping[str, Samples], watch: Telemetry, main: str, device: str) -> None:
    """Store the samples, and the columns about the fitness of the machine.

    Args:
        answer: receives the columns.
        samples: all samples.
        watch: telemetry during the samples.
        main: name of the samples whose median must be precise.
        device: ``cpu`` or ``cuda``.
    """
    answer.samples |= {name: taken.to_json() for name, taken in samples.items()}
    answer.values["discarded_ratio"] = max(taken.discarded_ratio for taken in samples.values())
    blocks = [taken.telemetry for taken in samples.values()]
    on_cuda = torch.device(device).type == "cuda"
    found = doubts(blocks, usable_cores=usable_cores(), heavy_processes=watch.heavy_processes(), on_cuda=on_cuda)
    rel_half_width = median_interval(samples[main].values_us).rel_half_width
    found |= sample_doubts(f"{main}_us", rel_half_width, answer.values["discarded_ratio"])
    answer.values |= fitness_columns(found)
    if not found:
        answer.leave_null("no reason for doubt was found", "fitness_reasons")


def compare_with_ceiling(
    answer: Answer, moved_bytes: int, us: float, ceiling_gbps: float | None, device: torch.device
) -> None:
    """Add the achieved bandwidth, from the bytes that any implementation must move, not those that this one moves."""
    values = answer.values
    values["achieved_gbps"] = moved_bytes / us / 1000
    values["last_level_cache_bytes"] = cache_bytes(device)
    if values["last_level_cache_bytes"] is None:
        answer.leave_null("the system does not report it", "last_level_cache_bytes")
    if ceiling_gbps is None:
        answer.leave_null("the ceiling could not be measured. See the log", "ceiling_gbps", "ceiling_ratio")
    else:
        values |= {"ceiling_gbps": ceiling_gbps, "ceiling_ratio": values["achieved_gbps"] / ceiling_gbps}


def cache_bytes(device: torch.device) -> int | None:
    """Return the size of the GPU's L2 cache, or of the processor's largest cache. ``None`` if unknown."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).L2_cache_size)
    return last_level_cache_bytes()
