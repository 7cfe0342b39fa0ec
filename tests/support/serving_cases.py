"""Small replays for the tests of scenario ``serving``: a load, a pool and both engines."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from bench.config.serving import ServingScenario
from bench.scenarios.serving.cost import StepCost
from bench.scenarios.serving.engines.events import EventReplay
from bench.scenarios.serving.engines.steps import PlainReplay
from bench.scenarios.serving.groups import Beams, Group
from bench.scenarios.serving.load import Load
from bench.scenarios.serving.memory import Memory, PagedMemory, ReservedMemory
from bench.scenarios.serving.record import Gaps, Record
from impls.policies import PagePool, PrefixPool, Reserved

MAX_SEQ_LEN = 64
COST = StepCost(
    overhead_fs=1000,
    weights_fs=700,
    token_fs=90,
    link_fs=3,
    context_fs=7,
    pair_fs=2,
    copy_fs=11,
    swap_page_fs=400,
)


@dataclass(frozen=True, kw_only=True)
class Case:
    """One replay, by plain values."""

    policy: str
    lengths: list[tuple[int, int]]
    arrivals_fs: list[int]
    slots: int = 64
    page_size: int = 4
    watermark: float = 0.0
    scenario: dict[str, Any] = field(default_factory=dict)
    blocks: list[list[int]] | None = None  # policy=prefix: names of each prompt's full pages
    end_fs: int | None = None
    cost: StepCost = COST

    @property
    def load(self) -> Load:
        prompts, outputs = zip(*self.lengths, strict=True)
        return Load(arrivals_fs=self.arrivals_fs, prompts=list(prompts), outputs=list(outputs))

    def memory(self) -> Memory:
        if self.policy.startswith("reserved"):
            _, estimate, arena = self.policy.split("-")
            return ReservedMemory(Reserved(self.slots, MAX_SEQ_LEN, 1, estimate=estimate, arena=arena))
        kind = PrefixPool if self.policy == "prefix" else PagePool
        pages = self.slots // self.page_size
        host_pages = int(pages * self.scenario.get("swap_pool_ratio", 1.0))
        pool = kind(pages, self.page_size, 1, watermark=self.watermark, host_pages=host_pages)
        return PagedMemory(pool, self.scenario.get("shared_prefix_tokens", 0), self._keys)

    def _keys(self, group: Group) -> list[Any]:
        return self.blocks[group.index][: group.prompt // self.page_size] if self.blocks else []

    def engine(self, kind: type[EventReplay] | type[PlainReplay]) -> EventReplay | PlainReplay:
        scenario = ServingScenario(**self.scenario)
        beams = Beams(7, scenario.num_samples, scenario.beam_turnover) if scenario.draws_beams else None
        return kind(self.load, self.memory(), self.cost, scenario, beams, self.end_fs)

    def run(self, kind: type[EventReplay] | type[PlainReplay] = EventReplay) -> Record:
        return self.engine(kind).run()


def comparable(record: Record) -> dict[str, Any]:
    """Return everything that both engines must agree on. Gaps are a bag, and +x drops counts of zero."""
    return {
        "admitted": record.admitted_fs,
        "first": record.first_fs,
        "last": record.last_fs,
        "generated": record.generated,
        "finished": record.finished,
        "refused": record.refused,
        "gaps": bag(record.gaps),
        "totals": record.totals,
        "running": record.running_fs,
        "busy": record.busy_fs,
        "end": record.end_fs,
        "count": dict(+record.count),
    }


def bag(gaps: list[Gaps]) -> Counter[int]:
    lengths: Counter[int] = Counter()
    for first, slope, steps, seqs in gaps:
        for step in range(steps):
            lengths[first + slope * step] += seqs
    return lengths


POLICIES = (
    "paged",
    "prefix",
    "reserved-max-first_fit",
    "reserved-pow2-buddy",
    "reserved-oracle-first_fit",
    "reserved-oracle-buddy",
)


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


def crowded_case(rng: random.Random) -> Case:
    """Return more requests than the pool holds to their end, so that some are preempted repeatedly."""
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
