"""Scenario ``serving``: order of queues, limits of a step, and regions, as in the scheduler of the paper's artifact."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from bench.scenarios.serving.engines.events import EventReplay
from bench.scenarios.serving.engines.steps import PlainReplay
from bench.scenarios.serving.groups import Beams, Group
from bench.scenarios.serving.memory import ReservedMemory
from impls.policies import Reserved
from tests.support.serving_cases import COST, Case

Engines = type[EventReplay] | type[PlainReplay]
both_engines = pytest.mark.parametrize("engine", [EventReplay, PlainReplay])


def order_of_readmission(engine: Engines, last_arrival_fs: int) -> str:
    """Return whether the third request, preempted in the second step, comes back before the fourth is admitted.

    Six pages of four tokens hold the first three prompts. In the second step the first request takes the last page.
    The fourth prompt has four pages, so it waits for one of the first two requests.
    """
    lengths = [(8, 8), (8, 8), (4, 4), (16, 2)]
    record = Case(policy="paged", lengths=lengths, arrivals_fs=[0, 0, 0, last_arrival_fs], slots=24).run(engine)
    assert record.count["preemptions"] >= 1
    assert all(record.finished)
    return "before" if record.last_fs[2] < record.first_fs[3] else "after"


@both_engines
def test_a_preempted_request_is_before_those_that_arrived_later(engine: Engines) -> None:
    assert order_of_readmission(engine, last_arrival_fs=1) == "before"


@both_engines
def test_a_preempted_request_is_behind_those_of_its_own_arrival_time(engine: Engines) -> None:
    assert order_of_readmission(engine, last_arrival_fs=0) == "after"


@both_engines
@pytest.mark.parametrize(("prompt", "waits"), [(19, False), (20, True), (21, False)])
def test_a_first_prompt_exceeds_the_token_limit_only_if_it_does_so_alone(
    engine: Engines, prompt: int, waits: bool
) -> None:
    case = Case(policy="paged", lengths=[(1, 10), (prompt, 1)], arrivals_fs=[0, 1], scenario={"max_batch_tokens": 20})
    record = case.run(engine)
    assert (record.admitted_fs[1] >= record.last_fs[0]) == waits


@both_engines
@pytest.mark.parametrize(("arena", "region"), [("first_fit", 37), ("buddy", 64)])
def test_a_crossing_beam_copies_the_whole_region_of_its_parent(engine: Engines, arena: str, region: int) -> None:
    prompt, output = 17, 20
    scenario = {"num_samples": 3, "sampling": "beam"}
    case = Case(policy=f"reserved-oracle-{arena}", lengths=[(prompt, output)], arrivals_fs=[0], slots=256,
                scenario=scenario)  # fmt: skip
    free_of_charge = replace(case, cost=replace(COST, copy_fs=0))
    beams, group = Beams(7, 3, 1.0), Group(0, prompt, output, range(3))
    crossed = sum(len(beams.forks(group, token)) for token in range(2, output))
    assert crossed > 0
    copying_fs = case.run(engine).busy_fs - free_of_charge.run(engine).busy_fs
    assert copying_fs == COST.copy_fs * region * crossed


def test_a_refused_request_leaves_the_free_regions_as_they_were() -> None:
    rng, refused = random.Random(0), 0
    policy = Reserved(16 * 50, 128, 1, estimate="oracle", arena="buddy")
    memory = ReservedMemory(policy)
    held: list[Group] = []
    for index in range(400):
        if held and rng.random() < 0.4:
            memory.free(held.pop(rng.randrange(len(held))))
        group = Group(index, 16, rng.choice([1, 16, 48]), range(6 * index, 6 * index + rng.choice([1, 4, 6])))
        before, seqs = repr(vars(policy._arena)), policy.num_seqs
        if memory.try_enter(group):
            held.append(group)
            continue
        refused += 1
        assert (repr(vars(policy._arena)), policy.num_seqs) == (before, seqs)
    assert refused > 100
