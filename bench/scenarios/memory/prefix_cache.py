"""Scenario ``prefix_cache``: hit rate against cache size, one request after another. No torch."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from bench.config import Config, TraceWorkload, Workload, build
from bench.config.memory import PrefixCacheScenario
from bench.rows.result import Answer
from bench.workload.requests import Requests, trace_requests
from impls.interface import Admission
from impls.policies import PrefixPool
from impls.policies.prefix_keys import keys_of_hash_ids
from impls.spec import ceil_div


def replay_prefixes(argument: Mapping[str, Any]) -> Answer:
    """Replay the prompts of a trace one after another: each shares known pages, then leaves.

    Args:
        argument: ``config`` (resolved, plain containers).

    Raises:
        ValueError: the workload has no prefix hashes, or a trace's blocks and ``page_size`` do not divide each other.
    """
    config = build(argument["config"])
    assert isinstance(config.scenario, PrefixCacheScenario)
    requests = prefixed_requests(config.workload)
    pages = [ceil_div(int(prompt), config.page_size) for prompt in requests.prompt_lens]
    pool = PrefixPool(config.scenario.cache_pages or sum(pages), config.page_size, config.model.token_bytes)
    started = time.perf_counter()
    refused = sum(not _visit(pool, requests, index, count) for index, count in enumerate(pages))
    replay_s = time.perf_counter() - started
    looked_up, hit = sum(pages), pool.counters["pages_hit"]
    return Answer(
        values={
            "cache_pages": pool.num_pages,
            "looked_up_pages": looked_up,
            "hit_pages": hit,
            "prefix_hit_ratio": hit / looked_up,
            "refused_seqs": refused,
            "replay_s": replay_s,
        }
    )


@lru_cache(maxsize=4)  # planned for each point, and reading takes seconds
def prefixed_requests(workload: Workload) -> Requests:
    """Return all requests of a trace with prefix hashes.

    Raises:
        ValueError: the workload has no prefix hashes.
    """
    if not isinstance(workload, TraceWorkload):
        raise ValueError(f"workload={workload.name} has no prefixes. scenario=prefix_cache needs a trace with "
                         "hash_ids: workload=trace workload.path=...")  # fmt: skip
    requests = trace_requests(workload)
    if requests.hash_ids is None:
        raise ValueError(f"workload.path={workload.path} has no hash_ids, which scenario=prefix_cache needs. Cut "
                         "prompts (workload.most_prompt_tokens) lose theirs")  # fmt: skip
    return requests


def predict(config: Config) -> None:
    """Check the trace of scenario ``prefix_cache``.

    Raises:
        ValueError: the workload has no prefix hashes, or its blocks and ``page_size`` do not divide each other.
    """
    requests = prefixed_requests(config.workload)
    assert requests.hash_ids is not None
    assert requests.hash_block_tokens is not None
    ids, block = requests.hash_ids[0], requests.hash_block_tokens
    keys_of_hash_ids(ids, block, len(ids) * block, config.page_size)


def _visit(pool: PrefixPool, requests: Requests, index: int, count: int) -> bool:
    """Replay one prompt, with its partial last page as a whole one, as in the traces. Return False if it never fits."""
    assert requests.hash_ids is not None
    assert requests.hash_block_tokens is not None
    block = requests.hash_block_tokens
    ids = requests.hash_ids[index]
    keys = keys_of_hash_ids(ids, block, len(ids) * block, pool.page_size)[:count]
    num_tokens = count * pool.page_size
    if pool.can_admit(num_tokens, keys=keys) is Admission.NEVER:
        return False
    pool.admit(index, num_tokens, keys=keys)
    pool.free(index)
    return True
