"""Scenario ``serving``: going by events gives the numbers of going token by token, whatever the case."""

from __future__ import annotations

from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from bench.scenarios.serving_events import EventReplay, Run
from bench.scenarios.serving_plain import PlainReplay
from tests.scenarios.serving_cases import MAX_SEQ_LEN, Case, comparable

POLICIES = ("paged", "prefix", "reserved-max-first_fit", "reserved-pow2-buddy", "reserved-oracle-first_fit")


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Few requests, small pools: queues, preemptions and refusals are the rule."""
    policy = draw(st.sampled_from(POLICIES))
    count = draw(st.integers(1, 12))
    prefix_tokens = draw(st.sampled_from([0, 0, 3, 8])) if policy == "paged" else 0
    lengths = [
        (draw(st.integers(1, 16)) + prefix_tokens, draw(st.one_of(st.integers(1, 4), st.integers(1, 20))))
        for _ in range(count)
    ]
    gaps = draw(st.lists(st.sampled_from([0, 1, 1000, 3000, 20_000, 100_000]), min_size=count, max_size=count))
    samples = draw(st.sampled_from([1, 1, 1, 2, 3]))
    scenario: dict[str, Any] = {
        "num_samples": samples,
        "sampling": draw(st.sampled_from(["parallel", "beam"])),
        "beam_turnover": draw(st.sampled_from([0.0, 0.3, 1.0])),
        "shared_prefix_tokens": prefix_tokens,
        "preemption": draw(st.sampled_from(["auto", "recompute", "swap"])),
        "swap_pool_ratio": draw(st.sampled_from([0.0, 0.3, 1.0])),
        "max_batch_seqs": samples * draw(st.sampled_from([1, 2, 100])),
        "max_batch_tokens": draw(st.sampled_from([1, 20, 1000])),
        "prefill": draw(st.sampled_from(["mixed", "first"])),
    }
    names = st.lists(st.integers(0, 2), min_size=8, max_size=8)
    blocks = [[tuple(ids[: page + 1]) for page in range(8)] for ids in draw(st.lists(names, min_size=count, max_size=count))]
    return Case(
        policy=policy,
        lengths=lengths,
        arrivals_fs=[sum(gaps[: place + 1]) for place in range(count)],
        slots=draw(st.sampled_from([24, 40, 64, 200])) * (2 if policy.startswith("reserved") else 1),
        page_size=draw(st.sampled_from([1, 4, 5])),
        watermark=draw(st.sampled_from([0.0, 0.1])),
        scenario=scenario,
        blocks=blocks,
        end_fs=draw(st.sampled_from([None, None, 10_000, 60_000])),
    )


@settings(max_examples=300, deadline=None)
@given(cases())
def test_both_engines_agree_to_the_last_digit(case: Case) -> None:
    by_events, by_steps = case.run(EventReplay), case.run(PlainReplay)
    assert comparable(by_events) == comparable(by_steps)
