"""Group ``workload``: sources of prompt and output lengths. ``name`` selects the class."""

from __future__ import annotations

import itertools
import typing
from dataclasses import dataclass

from bench.config.checks import at_least, each_at_least, one_of

REPEATS = ("fresh", "same", "refuse")
SPREADS = ("none", "even", "drawn")


@dataclass(frozen=True, kw_only=True)
class FixedWorkload:
    """Every sequence has exactly ``length`` tokens in the cache."""

    name: typing.Literal["fixed"] = "fixed"
    length: int = 512

    def __post_init__(self) -> None:
        at_least(self, "workload.", length=1)


@dataclass(frozen=True, kw_only=True)
class UniformWorkload:
    """Final lengths are uniform in ``low .. high``. The prompt is the fraction ``prompt_ratio`` of each."""

    name: typing.Literal["uniform"] = "uniform"
    low: int = 10
    high: int = 1024
    prompt_ratio: float = 0.5

    def __post_init__(self) -> None:
        at_least(self, "workload.", low=1, high=self.low)
        if not 0 < self.prompt_ratio <= 1:
            raise ValueError(f"workload.prompt_ratio={self.prompt_ratio} must be above 0 and at most 1")


@dataclass(frozen=True, kw_only=True)
class LognormalWorkload:
    """Prompt and output lengths are log-normal, with given means and standard deviations of the logarithm."""

    name: typing.Literal["lognormal"] = "lognormal"
    prompt_mean: float = 161.31
    prompt_sigma: float = 1.0
    output_mean: float = 337.99
    output_sigma: float = 1.0

    def __post_init__(self) -> None:
        at_least(self, "workload.", prompt_mean=1, output_mean=1, prompt_sigma=0, output_sigma=0)


@dataclass(frozen=True, kw_only=True)
class QuantileWorkload:
    """Prompt and output lengths are drawn from quantiles, for data sets of which only quantiles are published."""

    name: typing.Literal["sharegpt", "alpaca"]
    levels: tuple[float, ...]  # 0 = first < ... < last = 1
    prompt_quantiles: tuple[float, ...]  # tokens, ascending
    output_quantiles: tuple[float, ...]

    def __post_init__(self) -> None:
        if not (self.levels[:1] == (0.0,) and self.levels[-1:] == (1.0,) and _ascends(self.levels, strictly=True)):
            raise ValueError(f"workload.levels={list(self.levels)} must ascend from 0 to 1")
        for name in ("prompt_quantiles", "output_quantiles"):
            quantiles = getattr(self, name)
            each_at_least(f"workload.{name}", quantiles, 1)
            if len(quantiles) != len(self.levels) or not _ascends(quantiles, strictly=False):
                raise ValueError(f"workload.{name}={list(quantiles)} must be {len(self.levels)} ascending lengths, "
                                 "one per level")  # fmt: skip


def _ascends(values: tuple[float, ...], *, strictly: bool) -> bool:
    pairs = list(itertools.pairwise(values))
    return all(low < high if strictly else low <= high for low, high in pairs)


@dataclass(frozen=True, kw_only=True)
class TraceWorkload:
    """Requests are read from a trace file (Azure CSV, Mooncake JSONL, ShareGPT lengths)."""

    name: typing.Literal["trace"] = "trace"
    path: str = ""
    most_prompt_tokens: int | None = None  # a longer prompt keeps only its last tokens, and loses its prefix hashes
    most_output_tokens: int | None = None  # a longer output is cut to this length
    block_tokens: int | None = None  # tokens per entry of hash_ids; null: those of the published format
    repeat: str = "fresh"  # serving, a trace that is too short: fresh (repeats share nothing), same or refuse
    spread_ticks: str = "none"  # serving, requests with equal time stamps: none, even or drawn (seeded) within the tick
    skip_s: float = 0.0  # leave out the requests of the trace's first seconds
    skip_requests: int = 0  # leave out so many of the earliest requests, after skip_s

    def __post_init__(self) -> None:
        at_least(self, "workload.", most_prompt_tokens=1, most_output_tokens=0, block_tokens=1)
        at_least(self, "workload.", skip_s=0, skip_requests=0)
        one_of(self.repeat, REPEATS, "workload.repeat")
        one_of(self.spread_ticks, SPREADS, "workload.spread_ticks")
        if not self.path:
            raise ValueError("workload.path is empty. Set it to a trace file, such as workload.path=traces/NAME.csv. "
                             "`python scripts/fetch_traces.py` fetches the published ones. The second line of "
                             "conf/experiment/<name>.yaml names the one of an experiment")  # fmt: skip


Workload = FixedWorkload | UniformWorkload | LognormalWorkload | QuantileWorkload | TraceWorkload
