"""What the scheduler of the engine that goes by events decides for one step."""

from __future__ import annotations

from dataclasses import dataclass, field

from bench.scenarios.serving.cost import StepWork
from bench.scenarios.serving.groups import Group


@dataclass(slots=True)
class EngineStep:
    """What the scheduler decided for one step.

    Attributes:
        decodes: whether running sequences get a token; false while prompts go first.
        entries: requests whose prompts are computed.
        tokens: tokens of these.
        found: tokens of these that are in the pool already.
        pairs: (query, key) pairs of these.
        late: requests that came back from the host.
        swapped_pages: pages moved to or from the host.
        seqs: sequences that decode.
        context: tokens that these read.
        may_admit: whether the next step might admit somebody though nobody arrives or leaves.
    """

    decodes: bool = False
    entries: list[Group] = field(default_factory=list)
    tokens: int = 0
    found: int = 0
    pairs: int = 0
    late: list[Group] = field(default_factory=list)
    swapped_pages: int = 0
    seqs: int = 0
    context: int = 0
    may_admit: bool = False

    def work(self, copied: int) -> StepWork:
        """All that the step computes and moves."""
        return StepWork(self.seqs + self.tokens, self.context + self.found, self.pairs, copied, self.swapped_pages)
