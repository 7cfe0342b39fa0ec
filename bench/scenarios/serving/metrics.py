"""From the record of a replay to columns: latencies, batches and the time-weighted split of the pool."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.config import Config, ServingScenario
from bench.scenarios.serving.cost import FS_PER_S
from bench.scenarios.serving.load import Load
from bench.scenarios.serving.measured import rows_digest
from bench.scenarios.serving.record import PARTS, Gaps, Record

FS_PER_MS = FS_PER_S // 1000
PERCENTILES = (50, 90, 99)

Floats = NDArray[np.float64]


def latencies(load: Load, record: Record, *, finished_only: bool) -> dict[str, Floats]:
    """Latencies of each request, in milliseconds.

    A request that is unfinished, or without a first token, counts with the time that it has waited until the end: a
    lower bound. Refused requests count nowhere.

    Args:
        load: the requests.
        record: what became of them.
        finished_only: leave the unfinished out.

    Returns:
        ``ttft_ms``, ``tpot_ms`` (of those with two tokens at least), ``e2e_ms`` and
        ``normalized_latency_ms_per_token``; and, as long as the last two, ``arrival_s`` and ``finished``.
    """
    finished = np.array(record.finished, dtype=bool)
    counted = finished.copy() if finished_only else np.array(load.arrivals_fs) <= record.end_fs
    counted[record.refused] = False
    arrival, first, last, admitted_end = (
        np.array(column, dtype=np.float64) / FS_PER_MS
        for column in (load.arrivals_fs, record.first_fs, record.last_fs, [record.end_fs])
    )
    generated = np.array(record.generated, dtype=np.int64)
    first = np.where(generated > 0, first, admitted_end)
    e2e = np.where(finished, last, admitted_end) - arrival
    several = counted & (generated > 1)
    return {
        "ttft_ms": (first - arrival)[counted],
        "tpot_ms": ((last - first)[several] / (generated[several] - 1)),
        "e2e_ms": e2e[counted],
        "normalized_latency_ms_per_token": (e2e / np.array(load.outputs))[counted],
        "arrival_s": arrival[counted] / 1000,
        "finished": finished[counted].astype(np.float64),
    }


def gap_lengths(gaps: list[Gaps]) -> tuple[Floats, Floats]:
    """Times between tokens in milliseconds, ascending, and how many there are of each."""
    if not gaps:
        return np.zeros(0), np.zeros(0)
    first, slope, steps, seqs = (np.array(column, dtype=np.float64) for column in zip(*gaps, strict=True))
    repeats = steps.astype(np.int64)
    nth = np.arange(repeats.sum()) - np.repeat(np.cumsum(repeats) - repeats, repeats)
    lengths = (np.repeat(first, repeats) + nth * np.repeat(slope, repeats)) / FS_PER_MS
    order = np.argsort(lengths, kind="stable")
    return lengths[order], np.repeat(seqs, repeats)[order]


def weighted_percentile(values: Floats, weights: Floats, percent: float) -> float:
    """The smallest value that at least ``percent`` of all weight does not exceed; values ascend."""
    reached = np.cumsum(weights)
    return float(values[np.searchsorted(reached, percent / 100 * reached[-1])])


def latency_columns(load: Load, record: Record, times: dict[str, Floats]) -> dict[str, float | None]:
    """Means and percentiles; ``None`` where there is nothing to take them of."""
    columns: dict[str, float | None] = {}
    for name in ("ttft_ms", "tpot_ms", "e2e_ms", "normalized_latency_ms_per_token"):
        values = times[name]
        mean = name if name.endswith("_per_token") else f"{name}_mean"
        columns[mean] = float(values.mean()) if len(values) else None
        for percent in PERCENTILES:
            columns[f"{name}_p{percent}"] = float(np.percentile(values, percent)) if len(values) else None
    lengths, counts = gap_lengths(record.gaps)
    columns["itl_ms_mean"] = float(lengths @ counts / counts.sum()) if len(lengths) else None
    for percent in PERCENTILES:
        columns[f"itl_ms_p{percent}"] = weighted_percentile(lengths, counts, percent) if len(lengths) else None
    return columns


def batch_columns(load: Load, record: Record) -> dict[str, float | None]:
    """Requests in the batch, in the queue and in the system, and how busy it was."""
    totals = record.totals
    start_fs = load.arrivals_fs[0]
    span_fs = record.end_fs - start_fs
    served = [index for index in range(len(load)) if load.arrivals_fs[index] <= record.end_fs]
    refused = set(record.refused)
    in_system = sum(
        (record.last_fs[index] if record.finished[index] else record.end_fs) - load.arrivals_fs[index]
        for index in served
        if index not in refused
    )
    last_arrival_fs = load.arrivals_fs[-1] - start_fs
    return {
        "simulated_s": span_fs / FS_PER_S,
        "busy_ratio": record.busy_fs / span_fs,
        "offered_per_s": (len(load) - 1) * FS_PER_S / last_arrival_fs if last_arrival_fs else None,
        "finished_per_s": sum(record.finished) * FS_PER_S / span_fs,
        "output_tokens_per_s": record.count["output_tokens"] * FS_PER_S / span_fs,
        "batched_requests_mean": totals.requests / totals.time_fs,
        "batched_seqs_mean": totals.seqs / totals.time_fs,
        "in_system_requests_mean": in_system / span_fs,
        "waiting_requests_mean": (in_system - record.running_fs) / span_fs,
    }


def memory_columns(config: Config, record: Record, pool_bytes: int) -> dict[str, Any]:
    """Time-weighted parts in whole bytes, the rounding left to ``free`` so that they still sum to the pool."""
    totals, token_bytes = record.totals, config.model.token_bytes
    parts = {f"{part}_bytes": totals.parts[place] * token_bytes // totals.time_fs for place, part in enumerate(PARTS)}
    parts["free_bytes"] += pool_bytes - sum(parts.values())
    columns: dict[str, Any] = {
        "pool_bytes": pool_bytes,
        **parts,
        "shared_saved_bytes": totals.saved_tokens * token_bytes // totals.time_fs,
    }
    if not config.policy.name.startswith("reserved"):
        held = sum(totals.parts[:3])  # live, reserved and internal: what sequences hold
        saved = totals.saved_pages * config.page_size
        columns["pages_saved_ratio"] = saved / (held + saved)
    return columns


def curves(record: Record, num_slots: int) -> str:
    """Requests running and waiting, and the parts as shares of the pool, over time; JSON."""
    names = ("time_s", "running", "waiting", *PARTS)
    columns = list(zip(*record.samples, strict=True)) or [()] * len(names)
    scaled: Iterator[list[float]] = (
        [round(value / FS_PER_S, 6) for value in columns[0]] if place == 0
        else [round(value / num_slots, 4) for value in column] if place > 2
        else list(column)
        for place, column in enumerate(columns)
    )  # fmt: skip
    return json.dumps(dict(zip(names, scaled, strict=True)))


def asked_columns(config: Config) -> dict[str, Any]:
    """What was asked, where it has an effect."""
    scenario = config.scenario
    assert isinstance(scenario, ServingScenario)
    idle = scenario.without_effect(config)
    return {
        "arrivals": scenario.arrivals,
        "rate_per_s": None if "rate" in idle else scenario.rate,
        "cv_ratio": None if "cv" in idle else scenario.cv,
        "sampling": scenario.sampling,
        "num_samples": scenario.num_samples,
        "beam_turnover_ratio": scenario.beam_turnover if scenario.draws_beams else None,
        "shared_prefix_tokens": scenario.shared_prefix_tokens,
        "preemption_kind": None if "preemption" in idle else "swap" if scenario.swaps else "recompute",
        "gpu": config.cost.gpu,
        "num_gpus": config.cost.num_gpus,
        "slowdown_ratio": config.cost.slowdown,
        "measured_rows": rows_digest(config.cost, config.model, config.page_size),
    }
