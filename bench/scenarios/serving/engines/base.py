"""What both engines of scenario ``serving`` begin with: a load to come, an empty pool, and nothing on record."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from dataclasses import dataclass

from bench.config.serving import ServingScenario
from bench.scenarios.serving.cost import StepCost
from bench.scenarios.serving.groups import Beams, Group
from bench.scenarios.serving.load import Load
from bench.scenarios.serving.memory import Memory
from bench.scenarios.serving.record import Record
from impls.policies import is_paged


@dataclass(eq=False)
class Engine(ABC):
    """One replay; requests that could never fit are refused beforehand.

    Attributes:
        load: what is to be served.
        memory: where it is held.
        cost: how long a step takes.
        scenario: limits, and how it is preempted.
        beams: which beam descends from which, where requests have several.
        end_fs: when to stop, whoever is left; ``None``: when all is served.
    """

    load: Load
    memory: Memory
    cost: StepCost
    scenario: ServingScenario
    beams: Beams | None = None
    end_fs: int | None = None

    def __post_init__(self) -> None:
        self.pool = self.memory.policy if is_paged(self.memory.policy) else None
        self.record = Record.of(len(self.load))
        self.now_fs = 0
        self.coming: deque[Group] = deque()
        self.waiting: deque[Group] = deque()
        self._crossed = 0  # tokens that crossing beams had copied, charged to the next step
        count = self.scenario.num_samples
        for index, (prompt, output) in enumerate(zip(self.load.prompts, self.load.outputs, strict=True)):
            group = Group(index, prompt, output, range(index * count, (index + 1) * count))
            if self.memory.fits(group):
                self.coming.append(group)
            else:
                self.record.refused.append(index)

    @abstractmethod
    def run(self) -> Record:
        """Serve until the end."""
