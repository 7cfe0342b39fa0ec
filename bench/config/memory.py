"""Group ``scenario``, the scenarios about memory and lengths: capacity, churn, lengths, prefix_cache."""

from __future__ import annotations

import math
import typing
from dataclasses import dataclass

from bench.config.checks import at_least, one_of
from bench.config.root import AnyScenario, Config
from impls.spec import ModelSpec

HELD_LENGTHS = ("final", "mid_decode")
QUEUES = ("saturated", "open")


@dataclass(frozen=True, kw_only=True)
class CapacityScenario(AnyScenario):
    """How many sequences fit, by admitting and growing them until the first refusal."""

    name: typing.Literal["capacity"] = "capacity"
    held: str = "final"  # how far each has grown: final, or mid_decode (caught at a random token)
    real: bool = False  # allocate and write all layers on the device, and reconcile the bytes

    def __post_init__(self) -> None:
        one_of(self.held, HELD_LENGTHS, "scenario.held")
        if self.tensors != self.real:
            raise ValueError(f"scenario.tensors={self.tensors} must equal scenario.real={self.real}; set the latter")

    def layers_of(self, model: ModelSpec) -> int:
        """All layers, if any."""
        return model.num_layers if self.real else 0


@dataclass(frozen=True, kw_only=True)
class ChurnScenario(AnyScenario):
    """Sequences come, grow and leave over time; bookkeeping only."""

    name: typing.Literal["churn"] = "churn"
    queue: str = "saturated"  # saturated: all wait from the start; open: they arrive over time
    rate: float = 0.05  # queue=open: requests that arrive per step, on average (Poisson)

    def __post_init__(self) -> None:
        one_of(self.queue, QUEUES, "scenario.queue")
        if not 0 < self.rate < math.inf:
            raise ValueError(f"scenario.rate={self.rate} must be above 0 and finite")

    def without_effect(self, config: Config) -> tuple[str, ...]:
        """Nobody arrives at a saturated queue."""
        return ("rate",) if self.queue == "saturated" else ()


@dataclass(frozen=True, kw_only=True)
class LengthsScenario(AnyScenario):
    """What a workload's lengths are like: their means and distributions. No cache."""

    name: typing.Literal["lengths"] = "lengths"


@dataclass(frozen=True, kw_only=True)
class PrefixCacheScenario(AnyScenario):
    """How many of a trace's pages a cache of prefixes has already seen, one request after the other."""

    name: typing.Literal["prefix_cache"] = "prefix_cache"
    cache_pages: int = 0  # of page_size tokens; 0: as many as the trace has

    def __post_init__(self) -> None:
        at_least(self, "scenario.", cache_pages=0)
