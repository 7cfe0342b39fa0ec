"""Scenarios lengths and prefix_cache, and the rounding that churn counts apart."""

from __future__ import annotations

import json
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.rows.result import Answer
from bench.scenarios.memory.churn import run_churn
from bench.scenarios.memory.lengths import describe_lengths
from bench.scenarios.memory.prefix_cache import replay_prefixes
from tests.support.points import Composed, plan_of

MOONCAKE = str(Path(__file__).parents[1] / "workload" / "fixtures" / "mooncake.jsonl")


def replay(path: str, **scenario: int) -> Answer:
    page_size = scenario.pop("page_size", 512)
    point = Composed("scenario=prefix_cache", "workload=trace", scenario=scenario, workload={"path": path},
                     page_size=page_size)  # fmt: skip
    return replay_prefixes({"config": plan_of(point).points[0].config.to_json()})


def lru_hits(chains: list[list[int]], capacity: int) -> int:
    """Hits of an LRU cache of ids. Of one prompt the last id is the least recently used, as in vLLM."""
    cache: OrderedDict[int, None] = OrderedDict()
    hits = 0
    for chain in chains:
        known = [one in cache for one in chain]
        leading = known.index(False) if False in known else len(known)
        hits += leading
        for one in reversed(chain):
            cache[one] = None
            cache.move_to_end(one)
        while len(cache) > capacity:
            cache.popitem(last=False)
    return hits


@settings(deadline=None, max_examples=40)
@given(st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=4), min_size=1, max_size=12), st.integers(4, 12))
def test_it_is_a_least_recently_used_cache(tmp_path_factory, paths: list[list[int]], capacity: int) -> None:
    ids: dict[tuple[int, ...], int] = {}
    chains = [[ids.setdefault(tuple(path[: end + 1]), len(ids)) for end in range(len(path))] for path in paths]
    trace = tmp_path_factory.mktemp("trace") / "trace.jsonl"
    lines = [{"timestamp": 0, "input_length": 512 * len(c) - 5, "output_length": 1, "hash_ids": c} for c in chains]
    trace.write_text("\n".join(map(json.dumps, lines)))
    assert replay(str(trace), cache_pages=capacity).values["hit_pages"] == lru_hits(chains, capacity)
    endless = replay(str(trace)).values
    assert endless["hit_pages"] == sum(map(len, chains)) - len(ids), "all but the first sight of each"
    assert endless["looked_up_pages"] == sum(map(len, chains))


def test_smaller_pages_and_prompts_that_never_fit() -> None:
    assert replay(MOONCAKE).values["hit_pages"] == 1
    assert replay(MOONCAKE, page_size=256).values["hit_pages"] == 2, "the same 512 tokens"
    assert replay(MOONCAKE, cache_pages=2).values["refused_seqs"] == 1


def test_a_trace_without_prefixes_is_refused() -> None:
    with pytest.raises(ValueError, match="workload=uniform has no prefixes"):
        plan_of(Composed("scenario=prefix_cache"))
    with pytest.raises(ValueError, match="has no hash_ids"):
        replay(str(Path(MOONCAKE).with_name("sharegpt_lengths.csv")))


REFERENCE = {
    "conversation": {500: 4.2, 1000: 4.5, 5000: 11.0, 10000: 21.1, 50000: 35.5, 0: 36.64},
    "synthetic": {500: 4.1, 1000: 8.3, 5000: 27.9, 10000: 42.4, 50000: 64.0, 0: 63.96},
}
"""Percent that a plain LRU cache finds, computed from the published files by another program. A cache of vLLM's order
evicts the end of a prompt first, and finds up to a tenth more. An endless cache (0) evicts nothing."""


@pytest.mark.parametrize(("name", "size"), [(n, s) for n, of in REFERENCE.items() for s in (500, 5000, 0) if s in of])
def test_mooncake_gives_the_reference_hit_rates(name: str, size: int) -> None:
    trace = Path(__file__).parents[2].parent / "shared" / "traces" / f"{name}_trace.jsonl.gz"
    if not trace.exists():
        pytest.skip(f"the published trace {trace.name} is not in shared/traces beside this checkout")
    ratio = replay(str(trace), cache_pages=size).values["prefix_hit_ratio"]
    plain = REFERENCE[name][size]
    assert plain - 0.06 <= 100 * ratio <= (1.12 * plain if size else plain) + 0.06


def test_lengths_describes_what_churn_would_be_offered() -> None:
    point = Composed("scenario=lengths", "workload=alpaca", "model=opt-13b", num_seqs=2000)
    row = describe_lengths({"config": plan_of(point).points[0].config.to_json()}).values
    assert row["prompt_len_mean"] == pytest.approx(19.31, rel=0.1)
    assert row["output_len_mean"] == pytest.approx(58.45, rel=0.1)
    curves = json.loads(row["curves"])
    assert 0.99 < sum(curves["prompt"]) <= 1.0001
    assert 0.99 < sum(curves["output"]) <= 1.0001
    middle = np.array(curves["from_tokens"]) + curves["from_tokens"][1] / 2
    assert middle @ np.array(curves["output"]) == pytest.approx(row["output_len_mean"], rel=0.1)


def test_only_buddies_round_up() -> None:
    rows = {}
    for arena in ("buddy", "first_fit"):
        point = Composed("scenario=churn", "policy=reserved_oracle", policy={"arena": arena}, num_seqs=60,
                         memory_budget="32MiB")  # fmt: skip
        rows[arena] = run_churn({"config": plan_of(point).points[0].config.to_json()}).values
    assert rows["first_fit"]["rounding_bytes"] == 0
    buddy = rows["buddy"]
    assert buddy["rounding_bytes"] > 0
    # The oracle wastes nothing else, but both are rounded to whole bytes.
    assert abs(buddy["rounding_bytes"] - buddy["internal_fragmentation_bytes"]) <= 1
