"""What both engines of scenario ``serving`` begin with: a load to come, an empty pool, and nothing on record."""

from __future__ import annotations

from collections import deque

from bench.config import ServingScenario
from bench.scenarios.serving_cost import StepCost
from bench.scenarios.serving_groups import Beams, Group
from bench.scenarios.serving_load import Load
from bench.scenarios.serving_memory import Memory
from bench.scenarios.serving_record import Record
from impls.policies import PagePool


class Engine:
    """One replay; requests that could never fit are refused beforehand.

    Args:
        load: what is to be served.
        memory: where it is held.
        cost: how long a step takes.
        scenario: limits, and how it is preempted.
        beams: which beam descends from which, where requests have several.
        end_fs: when to stop, whoever is left; ``None``: when all is served.
    """

    def __init__(
        self,
        load: Load,
        memory: Memory,
        cost: StepCost,
        scenario: ServingScenario,
        beams: Beams | None = None,
        end_fs: int | None = None,
    ) -> None:
        self.load = load
        self.memory = memory
        self.pool = memory.policy if isinstance(memory.policy, PagePool) else None
        self.cost = cost
        self.scenario = scenario
        self.beams = beams
        self.end_fs = end_fs
        self.record = Record.of(len(load))
        self.now_fs = 0
        self.coming: deque[Group] = deque()
        self.waiting: deque[Group] = deque()
        self._crossed = 0  # tokens that crossing beams had copied, charged to the next step
        count = scenario.num_samples
        for index, (prompt, output) in enumerate(zip(load.prompts, load.outputs, strict=True)):
            group = Group(index, prompt, output, range(index * count, (index + 1) * count))
            if memory.fits(group):
                self.coming.append(group)
            else:
                self.record.refused.append(index)

    def run(self) -> Record:
        """Serve until the end."""
        raise NotImplementedError
