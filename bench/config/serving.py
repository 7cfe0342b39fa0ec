"""Scenario ``serving``: requests arrive over time and are served by continuous batching, in modelled time."""

from __future__ import annotations

import math
import typing
from collections.abc import Callable
from dataclasses import dataclass

from bench.config.checks import at_least, one_of
from bench.config.root import AnyScenario, Config

ENGINES = ("events", "steps")
ARRIVALS = ("poisson", "poisson_10ms", "gamma", "trace", "saturated")
UNORDERED = ("sort", "refuse")
STOPS = ("drained", "trace_end")
SAMPLINGS = ("parallel", "beam")
PREEMPTIONS = ("auto", "recompute", "swap")
PREFILLS = ("mixed", "first")

EFFECT_OF: dict[str, Callable[[ServingScenario], bool]] = {
    "rate": lambda s: s.arrivals not in ("trace", "saturated"),
    "cv": lambda s: s.arrivals == "gamma",
    "time_scale": lambda s: s.arrivals == "trace",
    "unordered": lambda s: s.arrivals == "trace",
    "beam_turnover": lambda s: s.draws_beams,
    "sampling": lambda s: s.num_samples > 1,
    "record_finished_only": lambda s: s.stop_at == "trace_end",
}
"""When a field has an effect at all."""
PAGED_ONLY = ("preemption", "swap_pool_ratio")
"""Fields without effect on a reservation, which is never preempted."""


@dataclass(frozen=True, kw_only=True)
class ServingScenario(AnyScenario):
    """Requests arrive, wait, are computed in batches and leave; memory by the policy, time by the cost model."""

    name: typing.Literal["serving"] = "serving"
    engine: str = "events"  # steps: token by token, for tests; the same numbers
    arrivals: str = "poisson"  # how the requests' times come about
    rate: float = 2.0  # requests per second
    cv: float = 1.0  # arrivals=gamma: coefficient of variation of the gaps
    time_scale: float = 1.0  # arrivals=trace: times are multiplied by this; 0.5 doubles the rate
    unordered: str = "sort"  # arrivals=trace with times out of order: sort (and count them) or refuse
    duration_s: float | None = None  # as many requests as arrive in this time, instead of num_seqs
    stop_at: str = "drained"  # or trace_end: what is unfinished then, stays so
    record_finished_only: bool = False  # latencies without the unfinished, as the paper's authors took them
    sampling: str = "parallel"  # what the num_samples sequences of a request are: independent samples, or beams
    num_samples: int = 1  # sequences per request
    beam_turnover: float = 1.0  # probability that a beam descends from a random one of its request in a step
    shared_prefix_tokens: int = 0  # tokens that every prompt begins with, put before the workload's
    preemption: str = "auto"  # recompute, swap; auto: recompute one sequence, swap several (the paper)
    swap_pool_ratio: float = 1.0  # the host's pages by the pool's
    max_batch_seqs: int = 256  # sequences in a step, at most
    max_batch_tokens: int = 2560  # tokens computed in a step, at most; its first prompt enters whatever its length
    prefill: str = "mixed"  # prompts and decodes in one step (the paper); first: prompts in steps of their own
    keep_latencies: bool = False  # keep every request's latencies among the samples

    def __post_init__(self) -> None:
        one_of(self.engine, ENGINES, "scenario.engine")
        one_of(self.arrivals, ARRIVALS, "scenario.arrivals")
        one_of(self.unordered, UNORDERED, "scenario.unordered")
        one_of(self.stop_at, STOPS, "scenario.stop_at")
        one_of(self.sampling, SAMPLINGS, "scenario.sampling")
        one_of(self.preemption, PREEMPTIONS, "scenario.preemption")
        one_of(self.prefill, PREFILLS, "scenario.prefill")
        for name in ("rate", "cv", "time_scale", "duration_s"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"scenario.{name}={value} must be above 0 and finite")
        at_least(self, "scenario.", num_samples=1, shared_prefix_tokens=0, swap_pool_ratio=0)
        at_least(self, "scenario.", max_batch_seqs=self.num_samples, max_batch_tokens=1)
        if not 0 <= self.beam_turnover <= 1:
            raise ValueError(f"scenario.beam_turnover={self.beam_turnover} must be between 0 and 1")
        if self.arrivals == "saturated" and self.stop_at == "trace_end":
            raise ValueError("scenario.stop_at=trace_end has no end to stop at with scenario.arrivals=saturated")
        if self.arrivals == "saturated" and self.duration_s is not None:
            raise ValueError("scenario.duration_s has no meaning with scenario.arrivals=saturated; give num_seqs")

    @property
    def models_time(self) -> bool:
        """All of its seconds are modelled."""
        return True

    @property
    def ignored_roots(self) -> tuple[str, ...]:
        """A duration decides how many requests there are."""
        return (*self.ignores, *(("num_seqs",) if self.duration_s is not None else ()))

    @property
    def swaps(self) -> bool:
        """Whether requests that are thrown out go to the host; the paper's system swaps those of several sequences."""
        return self.preemption == "swap" or (self.preemption == "auto" and self.num_samples > 1)

    @property
    def draws_beams(self) -> bool:
        """Whether sequences of a request descend from one another."""
        return self.sampling == "beam" and self.num_samples > 1

    def without_effect(self, config: Config) -> tuple[str, ...]:
        """What belongs to other arrivals, samplings or policies, and what changes no number."""
        idle = [name for name, has_effect in EFFECT_OF.items() if not has_effect(self)]
        if not self.swaps:
            idle.append("swap_pool_ratio")
        return (*idle, *(() if config.policy.has_pages else PAGED_ONLY))

    def check(self, config: Config) -> None:
        """Times of a trace need a trace; a cost model needs the model's weights."""
        if self.arrivals == "trace" and config.workload.name != "trace":
            raise ValueError(
                f"scenario.arrivals=trace takes its times from workload=trace, not workload={config.workload.name}"
            )
        if self.shared_prefix_tokens >= config.model.max_seq_len - 1:
            raise ValueError(
                f"scenario.shared_prefix_tokens={self.shared_prefix_tokens} must leave two of "
                f"model.max_seq_len={config.model.max_seq_len} tokens"
            )
        config.cost.check(config.model)
