"""The decision of the events engine for one step."""

from __future__ import annotations

from dataclasses import dataclass, field

from bench.scenarios.serving.cost import StepWork
from bench.scenarios.serving.groups import Group


@dataclass(slots=True)
class EngineStep:
    """The decision of the scheduler for one step.

    Attributes:
        decodes: whether running sequences get a token. False while prompts are computed first.
        entries: requests whose prompts are computed.
        tokens: tokens of these prompts.
        found: tokens of these prompts that are already in the pool.
        pairs: (query, key) pairs of these prompts.
        preempted: requests that were preempted to make room for others.
        late: requests that came back from the host.
        swapped_pages: pages moved to or from the host.
        seqs: sequences that decode.
        context: tokens that these sequences read.
        may_admit: whether the next step might admit a request without an arrival or an exit.
    """

    decodes: bool = False
    entries: list[Group] = field(default_factory=list)
    tokens: int = 0
    found: int = 0
    pairs: int = 0
    preempted: list[Group] = field(default_factory=list)
    late: list[Group] = field(default_factory=list)
    swapped_pages: int = 0
    seqs: int = 0
    context: int = 0
    may_admit: bool = False

    def work(self, copied: int) -> StepWork:
        """Return the work of the step."""
        return StepWork(self.seqs + self.tokens, self.context + self.found, self.pairs, copied, self.swapped_pages)
