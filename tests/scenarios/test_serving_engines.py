"""Scenario ``serving``: going by events gives the numbers of going token by token, whatever the case."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.scenarios.serving.engines.events import EventReplay
from bench.scenarios.serving.engines.steps import PlainReplay
from bench.scenarios.serving.groups import Group
from tests.support.serving_cases import Case, comparable

POLICIES = ("paged", "prefix", "reserved-max-first_fit", "reserved-pow2-buddy", "reserved-oracle-first_fit")


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Few requests, small pools: queues, preemptions and refusals are the rule."""
    policy = draw(st.sampled_from(POLICIES))
    count = draw(st.integers(1, 12))
    prefix_tokens = draw(st.sampled_from([0, 0, 3, 8])) if policy == "paged" else 0
    longest = draw(st.sampled_from([4, 24]))
    lengths = [(draw(st.integers(1, 16)) + prefix_tokens, draw(st.integers(1, longest))) for _ in range(count)]
    gap = st.sampled_from(draw(st.sampled_from([[0, 1, 1000], [0, 3000, 20_000, 100_000]])))
    gaps = draw(st.lists(gap, min_size=count, max_size=count))
    samples = draw(st.sampled_from([1, 1, 1, 2, 3]))
    scenario: dict[str, Any] = {
        "num_samples": samples,
        "sampling": draw(st.sampled_from(["parallel", "beam"])),
        "beam_turnover": draw(st.sampled_from([0.0, 0.3, 1.0])),
        "shared_prefix_tokens": prefix_tokens,
        "preemption": draw(st.sampled_from(["auto", "recompute", "swap"])),
        "swap_pool_ratio": draw(st.sampled_from([0.0, 0.3, 1.0])),
        "max_batch_seqs": samples * draw(st.sampled_from([1, 2, 100, 100])),
        "max_batch_tokens": draw(st.sampled_from([1, 20, 1000, 1000])),
        "prefill": draw(st.sampled_from(["mixed", "first"])),
    }
    names = st.lists(st.integers(0, 2), min_size=8, max_size=8)
    ids = draw(st.lists(names, min_size=count, max_size=count)) if policy == "prefix" else []
    return Case(
        policy=policy,
        lengths=lengths,
        arrivals_fs=[sum(gaps[: place + 1]) for place in range(count)],
        slots=draw(st.sampled_from([40, 64, 100])) * samples * (2 if policy.startswith("reserved") else 1),
        page_size=draw(st.sampled_from([1, 4, 5])),
        watermark=draw(st.sampled_from([0.0, 0.1])),
        scenario=scenario,
        blocks=[[tuple(of[: page + 1]) for page in range(8)] for of in ids] or None,
        end_fs=draw(st.sampled_from([None, None, 10_000, 60_000])),
    )


@settings(max_examples=400, deadline=None)
@given(cases())
def test_both_engines_agree_to_the_last_digit(case: Case) -> None:
    by_events, by_steps = case.run(EventReplay), case.run(PlainReplay)
    assert comparable(by_events) == comparable(by_steps)


def crowded_case(rng: random.Random) -> Case:
    """More requests at once than the pool holds to their end: somebody must be thrown out again and again."""
    samples = rng.choice([1, 1, 2, 3])
    count, page_size = rng.randint(6, 14), rng.choice([2, 3, 4])
    lengths = [(rng.randint(1, 12), rng.randint(8, 24)) for _ in range(count)]
    arrivals = sorted(rng.randint(0, 20_000) for _ in range(count))
    return Case(
        policy=rng.choice(["paged", "paged", "prefix"]),
        lengths=lengths,
        arrivals_fs=arrivals,
        slots=rng.randint(40, 60) * samples,
        page_size=page_size,
        watermark=rng.choice([0.0, 0.05]),
        scenario={
            "num_samples": samples,
            "sampling": rng.choice(["parallel", "beam"]),
            "preemption": rng.choice(["auto", "recompute", "swap"]),
            "swap_pool_ratio": rng.choice([0.2, 1.0, 1.0]),
            "prefill": rng.choice(["mixed", "first"]),
        },
        blocks=[[rng.randint(0, 3)] * 1 for _ in range(count)],
    )


def test_both_engines_agree_where_requests_are_thrown_out() -> None:
    rng, seen = random.Random(0), Counter[str]()
    for _ in range(250):
        case = crowded_case(rng)
        engine = case.engine(EventReplay)
        record = engine.run()
        assert comparable(record) == comparable(case.run(PlainReplay)), case
        seen["thrown out"] += record.count["preemptions"] > 0
        seen["computed again"] += record.count["recomputed_tokens"] > 0
        assert engine.pool is not None
        seen["swapped"] += engine.pool.counters["pages_swapped_in"] > 0
        seen["copied"] += engine.pool.counters["pages_copied"] > 0
        seen["evicted"] += engine.pool.counters["pages_evicted"] > 0
        seen["no room on the host"] += engine.pool.counters["pages_swapped_out"] > 0 and (
            record.count["recomputed_tokens"] > 0
        )
    assert min(seen.values()) >= 5, seen


@pytest.mark.parametrize("prefill", ["mixed", "first"])
@pytest.mark.parametrize("kind", [EventReplay, PlainReplay])
def test_beams_cross_once_after_each_token_but_the_first_and_last(
    kind: type[EventReplay] | type[PlainReplay], prefill: str
) -> None:
    lengths = [(3, 9), (5, 6), (2, 7)]
    case = Case(policy="paged", lengths=lengths, arrivals_fs=[0, 4000, 9000], slots=400,
                scenario={"num_samples": 3, "sampling": "beam", "prefill": prefill})  # fmt: skip
    engine = case.engine(kind)
    engine.run()
    assert engine.beams is not None
    assert engine.pool is not None
    groups = [Group(index, prompt, output, range(3)) for index, (prompt, output) in enumerate(lengths)]
    deaths = sum(len(engine.beams.forks(group, token)) for group in groups for token in range(2, group.output))
    assert engine.pool.counters["forks"] == deaths + 2 * len(lengths)
