"""The load of scenario ``serving``: requests that fit the model, and their arrivals."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from bench.config import Config, TraceWorkload
from bench.config.serving import ServingScenario
from bench.scenarios.filling import new_policy
from bench.scenarios.serving.cost import FS_PER_S
from bench.workload.arrivals import arrival_times
from bench.workload.requests import Requests, draw_requests, trace_requests
from bench.workload.streams import Stream, generator


@dataclass(frozen=True, kw_only=True, eq=False)
class Load:
    """Requests in order of arrival. The shared prefix is part of every prompt.

    Attributes:
        arrivals_fs: arrival of each request, ascending.
        prompts: tokens of each prompt.
        outputs: tokens to generate for each, at least 1.
        hash_ids: names of the blocks of each prompt, if the trace has them.
        hash_block_tokens: tokens per block.
        skipped: requests left out, because they are too long for the model or have no output.
        unordered: requests of a trace that were out of order, and were sorted.
    """

    arrivals_fs: list[int]
    prompts: list[int]
    outputs: list[int]
    hash_ids: list[list[int]] | None = None
    hash_block_tokens: int | None = None
    skipped: int = 0
    unordered: int = 0

    def __len__(self) -> int:
        return len(self.prompts)


def predict(config: Config) -> None:
    """Check the workload and the budget of scenario ``serving``.

    Raises:
        CannotRun: the budget does not hold a single page.
        ValueError: the workload cannot give the requests, has no output at all, or its arrivals are not as configured.
    """
    make_load(config)
    new_policy(config, None)


def make_load(config: Config) -> Load:
    """Return the requests of a point.

    Raises:
        ValueError: the workload cannot give them, has no output at all, or its arrivals are not as configured.
        TraceError: a trace file is missing, or does not match its schema.
    """
    scenario = config.scenario
    assert isinstance(scenario, ServingScenario)
    if scenario.arrivals == "trace":
        requests, unordered = _timed(config, scenario)
        assert requests.arrivals_s is not None
        times = requests.arrivals_s
    else:
        times = arrival_times(
            scenario.arrivals,
            rate=scenario.rate,
            cv=scenario.cv,
            seed=config.seed,
            number=config.num_seqs,
            duration_s=scenario.duration_s,
        )
        requests, unordered = _lengths(config, len(times), scenario.shared_prefix_tokens), 0
    return Load(
        arrivals_fs=[round(time * FS_PER_S) for time in times.tolist()],
        prompts=(requests.prompt_lens + scenario.shared_prefix_tokens).tolist(),
        outputs=requests.output_lens.tolist(),
        hash_ids=requests.hash_ids,
        hash_block_tokens=requests.hash_block_tokens,
        skipped=requests.skipped,
        unordered=unordered,
    )


def _timed(config: Config, scenario: ServingScenario) -> tuple[Requests, int]:
    """Return a trace's requests at its own scaled times, and how many of them were out of order."""
    assert isinstance(config.workload, TraceWorkload)
    path = config.workload.path
    every = _trace(config.workload)
    if every.arrivals_s is None:
        raise ValueError(f"workload.path={path} has no arrival times, which scenario.arrivals=trace needs")
    unordered = int(np.count_nonzero(every.arrivals_s < np.maximum.accumulate(every.arrivals_s)))
    if unordered and scenario.unordered == "refuse":
        raise ValueError(f"workload.path={path}: {unordered} requests arrive before the one ahead of them in the file. "
                         "scenario.unordered=sort sorts them")  # fmt: skip
    every = every.take(np.argsort(every.arrivals_s, kind="stable"))
    assert every.arrivals_s is not None
    times = (every.arrivals_s - every.arrivals_s[0]) * scenario.time_scale
    within = times < scenario.duration_s if scenario.duration_s is not None else np.ones(len(every), dtype=bool)
    places = np.flatnonzero(within)
    fitting = places[_fits(every.take(places), config, scenario.shared_prefix_tokens)]
    kept = fitting if scenario.duration_s is not None else fitting[: config.num_seqs]
    if scenario.duration_s is None and len(kept) < config.num_seqs:
        raise ValueError(f"num_seqs={config.num_seqs} is more than the {len(kept)} requests of workload.path={path} "
                         f"that fit model.max_seq_len={config.model.max_seq_len}")  # fmt: skip
    offered = places[: int(kept[-1]) + 1] if scenario.duration_s is None else places
    requests = every.take(kept, skipped=len(offered) - len(kept))
    return _at(requests, times[kept]), unordered


def _lengths(config: Config, number: int, prefix_tokens: int) -> Requests:
    """Return lengths of ``number`` requests, in random order. A trace that is too short repeats in new orders."""
    if not isinstance(config.workload, TraceWorkload):
        longest = config.model.max_seq_len - prefix_tokens
        try:
            requests = draw_requests(config.workload, num_seqs=number, max_seq_len=longest, seed=config.seed)
        except ValueError as error:
            part = f", less scenario.shared_prefix_tokens={prefix_tokens}" if prefix_tokens else ""
            raise ValueError(f"{error}{part}") from error
        places = np.flatnonzero(requests.output_lens > 0)
        if len(places) < number:
            raise ValueError(f"workload={config.workload.name} has requests without output. scenario=serving needs at "
                             "least one output token of each")  # fmt: skip
        return requests
    every = _trace(config.workload)
    fitting = np.flatnonzero(_fits(every, config, prefix_tokens))
    rng = generator(config.seed, Stream.TRACE_SAMPLE)
    order = np.concatenate([rng.permutation(fitting) for _ in range(math.ceil(number / len(fitting)))])[:number]
    return every.take(order, skipped=len(every) - len(fitting))


def _fits(requests: Requests, config: Config, prefix_tokens: int) -> NDArray[np.bool_]:
    """Return which requests fit the model and have output.

    Raises:
        ValueError: no request does.
    """
    longest = config.model.max_seq_len - prefix_tokens
    fits: NDArray[np.bool_] = (requests.final_lens <= longest) & (requests.output_lens > 0)
    if not fits.any():
        raise ValueError(f"workload={config.workload.name} has no request with output of at most {longest} tokens, "
                         f"which model.max_seq_len={config.model.max_seq_len} leaves")  # fmt: skip
    return fits


@lru_cache(maxsize=4)
def _trace(workload: TraceWorkload) -> Requests:
    return trace_requests(workload)


def _at(requests: Requests, times: NDArray[np.float64]) -> Requests:
    """Return the requests at other times."""
    return Requests(
        prompt_lens=requests.prompt_lens,
        output_lens=requests.output_lens,
        arrivals_s=times,
        hash_ids=requests.hash_ids,
        hash_block_tokens=requests.hash_block_tokens,
        skipped=requests.skipped,
    )
