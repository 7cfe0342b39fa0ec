"""Group ``scenario``: parameters of serving, which simulates continuous batching with a cost model."""

from __future__ import annotations

import math
import typing
from collections.abc import Callable
from dataclasses import dataclass

from bench.config.checks import at_least, one_of
from bench.config.root import AnyScenario, Config
from bench.config.workloads import TraceWorkload

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
"""Condition under which a field has an effect. Fields that are not listed always have one."""
PAGED_ONLY = ("preemption", "swap_pool_ratio")
"""Fields without effect on reserved policies, which never preempt a request."""


@dataclass(frozen=True, kw_only=True)
class ServingScenario(AnyScenario):
    """Requests arrive, wait, are computed in batches and leave. The policy decides memory, the cost model time."""

    name: typing.Literal["serving"] = "serving"
    engine: str = "events"  # events, or steps (token by token, slower); both give equal numbers
    arrivals: str = "poisson"  # process that determines the arrival times
    rate: float = 2.0  # requests per second
    cv: float = 1.0  # arrivals=gamma: coefficient of variation of the gaps
    time_scale: float = 1.0  # arrivals=trace: factor on the times, so 0.5 doubles the rate
    unordered: str = "sort"  # arrivals=trace with times out of order: sort (and count them) or refuse
    duration_s: float | None = None  # serve the requests that arrive in this time, instead of num_seqs requests
    stop_at: str = "drained"  # drained (all requests are finished) or trace_end (the last arrival)
    record_finished_only: bool = False  # leave unfinished requests out of the latencies, as the paper does
    sampling: str = "parallel"  # the num_samples sequences of a request: parallel (independent) or beam
    num_samples: int = 1  # sequences per request
    beam_turnover: float = 1.0  # probability that a beam is forked from a random beam of its request in a step
    shared_prefix_tokens: int = 0  # tokens that are put before every prompt of the workload
    preemption: str = "auto"  # recompute, swap, or auto (the paper: swap if a request has several sequences)
    swap_pool_ratio: float = 1.0  # pages of the host divided by pages of the pool
    max_batch_seqs: int = 256  # maximum number of sequences in a step
    max_batch_tokens: int = 2560  # maximum number of tokens computed in a step; a longer prompt is the first of one
    prefill: str = "mixed"  # mixed (prompts and decodes in one step, the paper) or first (prompts in own steps)
    keep_latencies: bool = False  # whether the latencies of every request are stored as samples

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
            raise ValueError(
                "scenario.stop_at=trace_end must be drained with scenario.arrivals=saturated: there is no last arrival"
            )
        if self.arrivals == "saturated" and self.duration_s is not None:
            raise ValueError(
                f"scenario.duration_s={self.duration_s} must be null with scenario.arrivals=saturated. Set num_seqs"
            )

    @property
    def models_time(self) -> bool:
        """Whether the cost model computes its seconds: always."""
        return True

    @property
    def ignored_roots(self) -> tuple[str, ...]:
        """Root names without effect. ``num_seqs`` is one of them if ``duration_s`` limits the requests."""
        return (*self.ignores, *(("num_seqs",) if self.duration_s is not None else ()))

    @property
    def swaps(self) -> bool:
        """Whether preempted requests are moved to the host. ``auto`` does so if they have several sequences."""
        return self.preemption == "swap" or (self.preemption == "auto" and self.num_samples > 1)

    @property
    def draws_beams(self) -> bool:
        """Whether sequences of a request are forked from each other."""
        return self.sampling == "beam" and self.num_samples > 1

    def draws(self, config: Config) -> bool:
        """Return whether anything is drawn. A trace that is replayed at its own times has no draw."""
        spread = isinstance(config.workload, TraceWorkload) and config.workload.spread_ticks == "drawn"
        return self.arrivals != "trace" or self.draws_beams or spread

    def without_effect(self, config: Config) -> tuple[str, ...]:
        """Return the parameters of other arrivals, samplings and policies."""
        idle = [name for name, has_effect in EFFECT_OF.items() if not has_effect(self)]
        if not self.swaps:
            idle.append("swap_pool_ratio")
        return (*idle, *(() if config.policy.has_pages else PAGED_ONLY))

    def check(self, config: Config) -> None:
        """Check that the workload has arrival times, the prompts fit into the model, and no constant is missing."""
        if self.arrivals == "trace" and config.workload.name != "trace":
            raise ValueError(f"scenario.arrivals=trace requires workload=trace (got {config.workload.name})")
        if self.shared_prefix_tokens >= config.model.max_seq_len - 1:
            raise ValueError(
                f"scenario.shared_prefix_tokens={self.shared_prefix_tokens} must be at most "
                f"{config.model.max_seq_len - 2}, so that two of model.max_seq_len={config.model.max_seq_len} tokens "
                "remain"
            )
        config.cost.check(config.model)
