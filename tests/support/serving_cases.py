"""Small replays for the tests of scenario ``serving``: a load, a pool and both engines."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from bench.config import ServingScenario
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
    """All that both engines must agree on; gaps as a bag, +x dropping counts of zero."""
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
