"""Group ``scenario``: parameters of capacity, churn, lengths and prefix_cache."""

from __future__ import annotations

import math
import typing
from dataclasses import dataclass

from bench.config.checks import at_least, one_of
from bench.config.root import AnyScenario, Config
from impls.spec import ModelSpec

HELD_LENGTHS = ("final", "mid_decode")
QUEUES = ("saturated", "open")
IDLE_WITHOUT_CACHE = ("num_layers", "num_query_heads", "num_kv_heads", "head_dim", "dtype", "kv_dtype",
                      "sliding_window", "soft_cap")  # fmt: skip
"""Fields of the model without effect if there is no cache."""


@dataclass(frozen=True, kw_only=True)
class CapacityScenario(AnyScenario):
    """Admit sequences and grow them until the policy refuses the first one, to count how many fit."""

    name: typing.Literal["capacity"] = "capacity"
    held: str = "final"  # length of each sequence: final, or mid_decode (a random token of its output)
    real: bool = False  # allocate and write all layers on the device, and compare the bytes with the computed ones

    def __post_init__(self) -> None:
        one_of(self.held, HELD_LENGTHS, "scenario.held")
        if self.tensors != self.real:
            raise ValueError(
                f"scenario.tensors={self.tensors} must equal scenario.real={self.real}. Set only scenario.real"
            )

    @property
    def idle_model_fields(self) -> tuple[str, ...]:
        """Nothing is computed: the policies free no page that a window leaves, and ``real`` only writes."""
        return ("num_query_heads", "sliding_window", "soft_cap")

    def layers_of(self, model: ModelSpec) -> int:
        """Return the number of layers that get storage: all of them if ``real``, else none."""
        return model.num_layers if self.real else 0


@dataclass(frozen=True, kw_only=True)
class ChurnScenario(AnyScenario):
    """Admit, grow and release sequences over time. No tensors are allocated."""

    name: typing.Literal["churn"] = "churn"
    queue: str = "saturated"  # saturated (all requests wait from the start) or open (they arrive over time)
    rate: float = 0.05  # queue=open: mean number of requests that arrive per step (Poisson)

    def __post_init__(self) -> None:
        one_of(self.queue, QUEUES, "scenario.queue")
        if not 0 < self.rate < math.inf:
            raise ValueError(f"scenario.rate={self.rate} must be above 0 and finite")

    @property
    def idle_model_fields(self) -> tuple[str, ...]:
        """Nothing is computed, and the policies free no page that a window leaves."""
        return ("num_query_heads", "sliding_window", "soft_cap")

    def without_effect(self, config: Config) -> tuple[str, ...]:
        """Return ``rate`` for a saturated queue, which has no arrivals."""
        return ("rate",) if self.queue == "saturated" else ()


@dataclass(frozen=True, kw_only=True)
class LengthsScenario(AnyScenario):
    """Summarize the lengths of a workload: means and distributions. There is no cache."""

    name: typing.Literal["lengths"] = "lengths"

    @property
    def idle_model_fields(self) -> tuple[str, ...]:
        """All but the longest length: there is no cache."""
        return IDLE_WITHOUT_CACHE


@dataclass(frozen=True, kw_only=True)
class PrefixCacheScenario(AnyScenario):
    """Send the requests of a trace through a prefix cache, one by one, to count how many of their pages it holds."""

    name: typing.Literal["prefix_cache"] = "prefix_cache"
    cache_pages: int = 0  # capacity in pages of page_size tokens; 0: as many pages as the trace has

    def __post_init__(self) -> None:
        at_least(self, "scenario.", cache_pages=0)
