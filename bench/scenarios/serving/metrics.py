"""Compute columns from the record of a replay: latencies, batches and the time-weighted split of the pool."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.config import Config
from bench.config.serving import ServingScenario
from bench.scenarios.bookkeeping import PARTS
from bench.scenarios.exact_statistics import TICKS, mean, percentile, ticks, weighted_percentile
from bench.scenarios.serving.cost import FS_PER_S
from bench.scenarios.serving.engines.runs import Run
from bench.scenarios.serving.load import Load
from bench.scenarios.serving.measured import rows_digest
from bench.scenarios.serving.record import Gaps, Record

FS_PER_MS = FS_PER_S // 1000
PERCENTILES = (50, 90, 99)

LatencyTicks = dict[str, list[int]]
"""Latencies by column, in ``1 / TICKS`` of a femtosecond."""


def latencies(load: Load, record: Record, *, finished_only: bool) -> LatencyTicks:
    """Return the latencies of each request, in whole units of ``1 / TICKS`` of a femtosecond.

    An unfinished request, or one without a first token, counts with the time that it has waited until the end, which
    is a lower bound. Refused requests do not count.

    Args:
        load: the requests.
        record: the record of the replay.
        finished_only: leave out unfinished requests.

    Returns:
        ``ttft_ms``, ``tpot_ms`` (of requests with at least two tokens), ``e2e_ms`` and
        ``normalized_latency_ms_per_token``.
    """
    times: LatencyTicks = {"ttft_ms": [], "tpot_ms": [], "e2e_ms": [], "normalized_latency_ms_per_token": []}
    for index in counted_requests(load, record, finished_only=finished_only):
        arrival, generated = load.arrivals_fs[index], record.generated[index]
        first = record.first_fs[index] if generated else record.end_fs
        last = record.last_fs[index] if record.finished[index] else record.end_fs
        times["ttft_ms"].append(ticks(first - arrival, 1))
        times["e2e_ms"].append(ticks(last - arrival, 1))
        times["normalized_latency_ms_per_token"].append(ticks(last - arrival, load.outputs[index]))
        if generated > 1:
            times["tpot_ms"].append(ticks(record.last_fs[index] - first, generated - 1))
    return times


def counted_requests(load: Load, record: Record, *, finished_only: bool) -> list[int]:
    """Return the places of the requests whose latencies count."""
    refused = set(record.refused)
    return [
        index
        for index, arrival in enumerate(load.arrivals_fs)
        if index not in refused and (record.finished[index] if finished_only else arrival <= record.end_fs)
    ]


def latency_samples(load: Load, record: Record, times: LatencyTicks, *, finished_only: bool) -> dict[str, list[float]]:
    """Return ``times`` in milliseconds, and ``arrival_s`` and ``finished`` of the same requests."""
    counted = counted_requests(load, record, finished_only=finished_only)
    return {
        **{name: [time / (TICKS * FS_PER_MS) for time in column] for name, column in times.items()},
        "arrival_s": [load.arrivals_fs[index] / FS_PER_S for index in counted],
        "finished": [float(record.finished[index]) for index in counted],
    }


def gap_lengths(gaps: list[Gaps]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Return the times between tokens in whole femtoseconds, ascending, and how many there are of each."""
    if not gaps:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    longest = max(gap.first_fs + gap.slope_fs * (gap.steps - 1) for gap in gaps)
    whole = np.int64 if longest < 2**63 else object  # int64 overflows after 2 h 33 min of femtoseconds
    first, slope = (np.array([gap[place] for gap in gaps], dtype=whole) for place in (0, 1))
    steps, seqs = (np.array([gap[place] for gap in gaps], dtype=np.int64) for place in (2, 3))
    nth = np.arange(steps.sum()) - np.repeat(np.cumsum(steps) - steps, steps)
    lengths = np.repeat(first, steps) + nth * np.repeat(slope, steps)
    order = np.argsort(lengths, kind="stable")
    return lengths[order], np.repeat(seqs, steps)[order]


def latency_columns(record: Record, times: LatencyTicks) -> dict[str, float | None]:
    """Return means and percentiles, ``None`` where there are no values."""
    columns: dict[str, float | None] = {}
    for name, column in times.items():
        values, unit = sorted(column), TICKS * FS_PER_MS
        columns[name if name.endswith("_per_token") else f"{name}_mean"] = mean(values, unit) if values else None
        for percent in PERCENTILES:
            columns[f"{name}_p{percent}"] = percentile(values, percent, unit) if values else None
    return columns | gap_columns(record.gaps)


def gap_columns(gaps: list[Gaps]) -> dict[str, float | None]:
    """Return mean and percentiles of the times between tokens, ``None`` where there are none."""
    if not gaps:
        return dict.fromkeys(["itl_ms_mean", *(f"itl_ms_p{percent}" for percent in PERCENTILES)])
    total_fs = sum(gap.seqs * Run(gap.first_fs, gap.slope_fs).duration_fs(gap.steps) for gap in gaps)
    count = sum(gap.seqs * gap.steps for gap in gaps)
    lengths, counts = gap_lengths(gaps)
    return {
        "itl_ms_mean": total_fs / (count * FS_PER_MS),
        **{f"itl_ms_p{percent}": weighted_percentile(lengths, counts, percent) / FS_PER_MS for percent in PERCENTILES},
    }


def batch_columns(load: Load, record: Record) -> dict[str, float | None]:
    """Return requests in the batch, in the queue and in the system, and the busy share."""
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
    """Return time-weighted parts in whole bytes. Rounding goes to ``free``, so that they still sum to the pool."""
    totals, token_bytes = record.totals, config.model.token_bytes
    parts = {f"{part}_bytes": totals.parts[place] * token_bytes // totals.time_fs for place, part in enumerate(PARTS)}
    parts["free_bytes"] += pool_bytes - sum(parts.values())
    columns: dict[str, Any] = {
        "pool_bytes": pool_bytes,
        **parts,
        "shared_saved_bytes": totals.saved_tokens * token_bytes // totals.time_fs,
    }
    if config.policy.has_pages:
        held = sum(totals.parts[:3])  # live, reserved and internal: slots that sequences hold
        saved = totals.saved_pages * config.page_size
        columns["pages_saved_ratio"] = saved / (held + saved)
    return columns


def curves(record: Record, num_slots: int) -> str:
    """Return running and waiting requests, and the parts as shares of the pool, over time, as JSON."""
    names = ("time_s", "running", "waiting", *PARTS)
    columns = list(zip(*record.curve.points, strict=True)) or [()] * len(names)
    scaled: Iterator[list[float]] = (
        [round(value / FS_PER_S, 6) for value in columns[0]] if place == 0
        else [round(value / num_slots, 4) for value in column] if place > 2
        else list(column)
        for place, column in enumerate(columns)
    )  # fmt: skip
    return json.dumps(dict(zip(names, scaled, strict=True)))


def question_columns(config: Config) -> dict[str, Any]:
    """Return the columns of the question that have an effect."""
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
