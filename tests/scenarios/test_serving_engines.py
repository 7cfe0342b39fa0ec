"""Scenario ``serving``: going by events gives the numbers of going token by token, whatever the case."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given, settings

from bench.scenarios.serving.engines.events import EventReplay
from bench.scenarios.serving.engines.steps import PlainReplay
from bench.scenarios.serving.groups import Group
from tests.support.serving_cases import Case, cases, comparable, crowded_case


@settings(max_examples=400, deadline=None)
@given(cases())
def test_both_engines_agree_to_the_last_digit(case: Case) -> None:
    by_events, by_steps = case.run(EventReplay), case.run(PlainReplay)
    assert comparable(by_events) == comparable(by_steps)


def test_both_engines_agree_where_requests_are_preempted() -> None:
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
