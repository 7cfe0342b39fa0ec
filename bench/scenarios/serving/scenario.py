"""Scenario ``serving``: iteration-level continuous batching over a memory policy, in modelled time. No torch.

The policies hold the memory. Only the duration of a step comes from a model (``cost``). Two engines give equal
numbers: one goes from event to event, the other (``scenario.engine=steps``) token by token.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bench.config import Config, build
from bench.config.serving import ServingScenario
from bench.measure.timers.quiet import quiet
from bench.rows.result import Answer
from bench.scenarios.bookkeeping import digest
from bench.scenarios.filling import new_policy
from bench.scenarios.serving.cost import FS_PER_S, FS_PER_US, roofline
from bench.scenarios.serving.engines.events import EventReplay
from bench.scenarios.serving.engines.steps import PlainReplay
from bench.scenarios.serving.groups import Beams, Group
from bench.scenarios.serving.load import Load, make_load, prompt_keys
from bench.scenarios.serving.measured import with_measured_attention
from bench.scenarios.serving.memory import Memory, PagedMemory, ReservedMemory
from bench.scenarios.serving.metrics import (
    batch_columns,
    curves,
    latencies,
    latency_columns,
    latency_samples,
    memory_columns,
    question_columns,
)
from bench.scenarios.serving.record import Record
from impls.interface import Unsupported
from impls.policies import finds_prefixes, is_paged, is_reserved
from impls.policies.prefix_keys import PageKey

COUNTS = ("steps", "preemptions", "most_running_seqs", "prompt_tokens", "output_tokens", "prefix_hit_tokens",
          "recomputed_tokens")  # fmt: skip
"""Columns that are counts of the record, by the same names."""
PAGE_COUNTS = {
    "swapped_out_pages": "pages_swapped_out",
    "swapped_in_pages": "pages_swapped_in",
    "copied_pages": "pages_copied",
}
"""Columns that are counters of a page pool."""


def run_serving(argument: Mapping[str, Any]) -> Answer:
    """Serve a workload, and return its row.

    Args:
        argument: ``config`` (resolved, plain containers).

    Raises:
        Unsupported: the pool could never hold any of the requests to its end, or nothing is served before the end.
    """
    config = build(argument["config"])
    load = make_load(config)
    memory = make_memory(config, load)
    with quiet():
        started = time.perf_counter()
        record = replay(config, load, memory)
        replay_s = time.perf_counter() - started
    if len(record.refused) == len(load):
        raise Unsupported(f"memory_budget={config.memory_budget} could never hold any of the {len(load)} requests to "
                          "its end (NEVER)")  # fmt: skip
    if not record.count["steps"]:
        raise Unsupported("scenario.stop_at=trace_end stops before the first step: nothing was served")
    return answer_of(config, load, memory, record, replay_s)


def replay(config: Config, load: Load, memory: Memory) -> Record:
    """Serve a load with the configured engine."""
    scenario = config.scenario
    assert isinstance(scenario, ServingScenario)
    beams = Beams(config.seed, scenario.num_samples, scenario.beam_turnover) if scenario.draws_beams else None
    cost = roofline(config.cost, config.model, config.page_size)
    cost = with_measured_attention(cost, config.cost, config.model, config.page_size).slowed(config.cost.slowdown)
    engine = EventReplay if scenario.engine == "events" else PlainReplay
    return engine(load, memory, cost, scenario, beams, end_fs(scenario, load)).run()


def end_fs(scenario: ServingScenario, load: Load) -> int | None:
    """Return when to stop, or ``None`` to serve all requests."""
    if scenario.stop_at == "drained":
        return None
    return round(scenario.duration_s * FS_PER_S) if scenario.duration_s is not None else load.arrivals_fs[-1]


def make_memory(config: Config, load: Load) -> Memory:
    """Return an empty pool of the policy.

    Raises:
        Unsupported: the pool does not hold the shared prefix.
    """
    scenario = config.scenario
    assert isinstance(scenario, ServingScenario)
    policy = new_policy(config, None, host_ratio=scenario.swap_pool_ratio)
    if is_reserved(policy):
        return ReservedMemory(policy)
    assert is_paged(policy)
    try:
        return PagedMemory(policy, scenario.shared_prefix_tokens, page_keys(config, load))
    except ValueError as error:
        raise Unsupported(str(error)) from error


def page_keys(config: Config, load: Load) -> Callable[[Group], Sequence[PageKey]]:
    """Return a function that names the full pages of a prompt: by the shared prefix and by a trace's block ids."""
    if load.hash_ids is None:
        prefix = prompt_keys(config, load, 0)  # equal for all requests
        return lambda group: prefix
    return lambda group: prompt_keys(config, load, group.index)


def _digest_of(load: Load, num_samples: int) -> str:
    """Return the hash of the work: arrivals in microseconds, lengths, and sequences per request."""
    arrivals_us = [arrival // FS_PER_US for arrival in load.arrivals_fs]
    return digest([arrivals_us, load.prompts, load.outputs, [num_samples] * len(load)])


def answer_of(config: Config, load: Load, memory: Memory, record: Record, replay_s: float) -> Answer:
    """Return all columns of a replay."""
    scenario = config.scenario
    assert isinstance(scenario, ServingScenario)
    times = latencies(load, record, finished_only=scenario.record_finished_only)
    refused, finished = set(record.refused), sum(record.finished)
    arrived = sum(arrival <= record.end_fs for index, arrival in enumerate(load.arrivals_fs) if index not in refused)
    values = {
        **question_columns(config),
        "finished_requests": finished,
        "unfinished_requests": arrived - finished,
        "refused_seqs": len(record.refused),
        "skipped_requests": load.skipped,
        "unordered_requests": load.unordered,
        "repeated_requests": load.repeated,
        **{name: record.count[name] for name in COUNTS},
        **batch_columns(load, record),
        **latency_columns(record, times),
        **memory_columns(config, record, memory.policy.pool_bytes),
        "batch_digest": _digest_of(load, scenario.num_samples),
        "curves": curves(record, memory.policy.pool_bytes // config.model.token_bytes),
        "replay_s": replay_s,
    }
    found, prompts = values["prefix_hit_tokens"], values["prompt_tokens"]
    values["prefix_hit_ratio"] = found / prompts if prompts and finds_prefixes(memory.policy) else None
    if is_paged(memory.policy):
        values |= {column: memory.policy.counters[name] for column, name in PAGE_COUNTS.items()}
    samples: dict[str, Any] = {"refused_requests": record.refused}
    if scenario.keep_latencies:
        samples |= latency_samples(load, record, times, finished_only=scenario.record_finished_only)
    answer = Answer(values={name: value for name, value in values.items() if value is not None}, samples=samples)
    answer.leave_null("has no effect on this point, or there are no values",
                      *(name for name, value in values.items() if value is None))  # fmt: skip
    return answer
