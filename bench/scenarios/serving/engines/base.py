"""Base of both engines of scenario ``serving``: the load, an empty pool, and an empty record."""

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
    """One replay. Requests that could never fit are refused beforehand.

    Attributes:
        load: the requests to serve.
        memory: the memory of their sequences.
        cost: durations of steps.
        scenario: limits, and the kind of preemption.
        beams: parents of beams, if requests have several.
        end_fs: when to stop, with unfinished requests left. ``None``: when all are served.
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
        self._crossed = 0  # slots copied by crossing beams, charged to the next step
        count = self.scenario.num_samples
        for index, (prompt, output) in enumerate(zip(self.load.prompts, self.load.outputs, strict=True)):
            seq_ids = range(index * count, (index + 1) * count)
            group = Group(index, prompt, output, seq_ids, arrival_fs=self.load.arrivals_fs[index])
            if self.memory.fits(group):
                self.coming.append(group)
            else:
                self.record.refused.append(index)

    def exceeds_tokens(self, others: int, prompt: int, *, is_first: bool) -> bool:
        """Return whether ``scenario.max_batch_tokens`` keeps a prompt out of the step.

        Args:
            others: tokens that are already in the step.
            prompt: tokens to compute for the prompt.
            is_first: whether it is the first prompt of the step. It may exceed the limit if it does so alone.
        """
        limit = self.scenario.max_batch_tokens
        return others + prompt > limit and not (is_first and prompt > limit)

    @abstractmethod
    def run(self) -> Record:
        """Serve until the end."""
