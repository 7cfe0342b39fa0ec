"""Scenario ``churn``: sequences arrive, grow and leave, and the pool is recorded at every step. No torch."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

from bench.config import Config, build
from bench.config.memory import ChurnScenario
from bench.measure.timers.quiet import quiet
from bench.rows.result import Answer
from bench.scenarios.bookkeeping import PARTS, digest
from bench.scenarios.exact_statistics import TICKS
from bench.scenarios.filling import draw, new_policy
from bench.scenarios.memory.queues import OpenQueue, make_queue
from bench.scenarios.memory.watching import ROUNDING, RUNNING, Watched, watch
from impls.interface import Unsupported
from impls.policies import SaturatedQueue

COUNTERS = ("admissions", "appends", "frees", "preemptions", "pages_taken_admit", "pages_taken_append", "peak_pages",
            "steps")  # fmt: skip
"""Columns that are counters of the queue, by the same names."""


def run_churn(argument: Mapping[str, Any]) -> Answer:
    """Serve all requests of the workload.

    Args:
        argument: ``config`` (resolved, plain containers).

    Raises:
        Unsupported: the pool could never hold any of the requests to its end.
    """
    config = build(argument["config"])
    assert isinstance(config.scenario, ChurnScenario)
    requests, _ = draw(config)
    queue = make_queue(config, new_policy(config, None), requests)
    if len(queue.refused) == len(requests):
        raise Unsupported(f"memory_budget={config.memory_budget} could never hold any of the {len(requests)} requests "
                          "to its end (NEVER)")  # fmt: skip
    with quiet():
        started = time.perf_counter()
        watched = watch(queue)
        replay_s = time.perf_counter() - started
    answer = Answer(
        values={
            "queue": config.scenario.queue,
            "admitted_seqs": len(requests) - len(queue.refused),
            "refused_seqs": len(queue.refused),
            "skipped_requests": requests.skipped,
            "batch_digest": digest([requests.prompt_lens, requests.output_lens]),
            "replay_s": replay_s,
            **_means(config, queue, watched),
        },
        samples={"refused_requests": [request.seq_id for request in queue.refused]},
    )
    _count(answer, queue)
    return answer


def _means(config: Config, queue: SaturatedQueue, watched: Watched) -> dict[str, Any]:
    """Return time-weighted parts in whole bytes. Rounding goes to ``free``, so that they still sum to the pool."""
    pool_bytes, token_bytes = queue.batch.policy.pool_bytes, config.model.token_bytes
    sums = watched.sums.tolist()
    parts = {f"{part}_bytes": sums[place] * token_bytes // watched.steps for place, part in enumerate(PARTS)}
    parts["free_bytes"] += pool_bytes - sum(parts.values())
    return {
        "pool_bytes": pool_bytes,
        **parts,
        "rounding_bytes": sums[ROUNDING] * token_bytes // watched.steps,
        "shared_saved_bytes": 0,
        "largest_free_ratio": watched.largest_free / (watched.steps * TICKS),
        "running_mean": sums[RUNNING] / watched.steps,
        "loaded_steps": watched.steps,
        "curves": json.dumps(_curves(watched, pool_bytes // token_bytes)),
    }


def _curves(watched: Watched, num_slots: int) -> dict[str, list[float]]:
    """Return the parts as shares of the pool, over time."""
    lines = watched.curve.points
    shares = {part: [round(line[place] / num_slots, 4) for line in lines] for place, part in enumerate(PARTS)}
    return {"step": list(watched.curve.positions), "running": [line[RUNNING] for line in lines], **shares}


def _count(answer: Answer, queue: SaturatedQueue) -> None:
    """Return the exact counters of the policy and the batch."""
    counters = queue.counters
    answer.values |= {name: counters[name] for name in COUNTERS if name in counters}
    answer.values["most_running_seqs"] = counters["most_running"]
    answer.leave_null("a reservation has no pages and is never preempted", *(set(COUNTERS) - set(counters)))
    if isinstance(queue, OpenQueue):
        answer.values["delayed_requests"] = queue.delayed
    else:
        answer.leave_null("in a saturated queue all requests wait", "delayed_requests")
