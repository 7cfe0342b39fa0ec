"""The load of scenario ``serving``: requests that fit the model, and their arrivals."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from bench.config import Config, TraceWorkload
from bench.config.serving import ServingScenario
from bench.scenarios.filling import new_policy
from bench.scenarios.serving.cost import FS_PER_S
from bench.workload.arrivals import arrival_times
from bench.workload.replay_window import spread
from bench.workload.requests import Requests, draw_requests, trace_requests
from bench.workload.streams import Stream, generator
from impls.policies import finds_prefixes
from impls.policies.prefix_keys import PageKey, keys_of_hash_ids


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
        repeated: requests that the trace has only once, and that are served again.
    """

    arrivals_fs: list[int]
    prompts: list[int]
    outputs: list[int]
    hash_ids: list[list[int]] | None = None
    hash_block_tokens: int | None = None
    skipped: int = 0
    unordered: int = 0
    repeated: int = 0

    def __len__(self) -> int:
        return len(self.prompts)


def predict(config: Config) -> None:
    """Check the workload and the budget of scenario ``serving``.

    Raises:
        CannotRun: the budget does not hold a single page.
        ValueError: the workload cannot give the requests, has no output at all, or its arrivals are not as configured.
    """
    load = make_load(config)
    policy = new_policy(config, None)
    if load.hash_ids is not None and finds_prefixes(policy):
        prompt_keys(config, load, 0)


def make_load(config: Config) -> Load:
    """Return the requests of a point.

    Raises:
        ValueError: the workload cannot give them, has no output at all, or its arrivals are not as configured.
        TraceError: a trace file is missing, or does not match its schema.
    """
    scenario = config.scenario
    assert isinstance(scenario, ServingScenario)
    if scenario.arrivals == "trace":
        (requests, unordered), repeated = _timed(config, scenario), 0
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
        (requests, repeated), unordered = _lengths(config, len(times), scenario.shared_prefix_tokens), 0
    return Load(
        arrivals_fs=[round(time * FS_PER_S) for time in times.tolist()],
        prompts=(requests.prompt_lens + scenario.shared_prefix_tokens).tolist(),
        outputs=requests.output_lens.tolist(),
        hash_ids=requests.hash_ids,
        hash_block_tokens=requests.hash_block_tokens,
        skipped=requests.skipped,
        unordered=unordered,
        repeated=repeated,
    )


def _timed(config: Config, scenario: ServingScenario) -> tuple[Requests, int]:
    """Return a trace's requests at its own scaled times, and how many of them were out of order."""
    assert isinstance(config.workload, TraceWorkload)
    path = config.workload.path
    every = whole_trace(config.workload)
    if every.arrivals_s is None:
        raise ValueError(f"workload.path={path} has no arrival times, which scenario.arrivals=trace needs")
    unordered = int(np.count_nonzero(every.arrivals_s < np.maximum.accumulate(every.arrivals_s)))
    if unordered and scenario.unordered == "refuse":
        raise ValueError(f"workload.path={path}: {unordered} requests arrive before the one ahead of them in the file. "
                         "scenario.unordered=sort sorts them")  # fmt: skip
    every = every.take(np.argsort(every.arrivals_s, kind="stable"))
    assert every.arrivals_s is not None
    arrivals = spread(every.arrivals_s, config.workload.spread_ticks, config.seed)
    times = (arrivals - arrivals[0]) * scenario.time_scale
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


def _lengths(config: Config, number: int, prefix_tokens: int) -> tuple[Requests, int]:
    """Return lengths of ``number`` requests, in random order, and how many of them are repeats.

    A trace that is too short repeats in new orders. Repeats have fresh prefix hashes, unless ``workload.repeat=same``.
    """
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
        return requests, 0
    workload = config.workload
    every = whole_trace(workload)
    fitting = np.flatnonzero(_fits(every, config, prefix_tokens))
    repeated = max(number - len(fitting), 0)
    if repeated and workload.repeat == "refuse":
        raise ValueError(f"workload.repeat=refuse: {number} requests are needed, and workload.path={workload.path} has "
                         f"{len(fitting)} that fit. workload.repeat=fresh serves them again")  # fmt: skip
    rng = generator(config.seed, Stream.TRACE_SAMPLE)
    order = np.concatenate([rng.permutation(fitting) for _ in range(math.ceil(number / len(fitting)))])[:number]
    requests = every.take(order, skipped=len(every) - len(fitting))
    return (_with_fresh_ids(requests, len(fitting)) if workload.repeat == "fresh" else requests), repeated


def _with_fresh_ids(requests: Requests, once: int) -> Requests:
    """Return requests whose hash ids differ from round to round. Each round has ``once`` requests."""
    if requests.hash_ids is None or len(requests) <= once:
        return requests
    every = [one for ids in requests.hash_ids for one in ids]
    span = max(every) - min(every) + 1
    fresh = [[one + index // once * span for one in ids] for index, ids in enumerate(requests.hash_ids)]
    return replace(requests, hash_ids=fresh)


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
def whole_trace(workload: TraceWorkload) -> Requests:
    """Return all requests of a trace, without the skipped ones."""
    return trace_requests(workload)


def _at(requests: Requests, times: NDArray[np.float64]) -> Requests:
    """Return the requests at other times."""
    return replace(requests, arrivals_s=times)


def prompt_keys(config: Config, load: Load, index: int) -> list[PageKey]:
    """Return the keys of the full pages of one prompt: those of the shared prefix, then those of the trace's blocks.

    Args:
        config: resolved.
        load: requests of a trace with hash ids, or of a workload whose prompts share only the prefix.
        index: position of the request in the load.

    Raises:
        ValueError: ``page_size`` and the trace's blocks do not divide each other.
    """
    assert isinstance(config.scenario, ServingScenario)
    prefix, size = config.scenario.shared_prefix_tokens, config.page_size
    keys: list[PageKey] = [-1 - page for page in range(prefix // size)]
    ids, block = load.hash_ids, load.hash_block_tokens
    if ids is None or block is None:
        return keys
    prompt = load.prompts[index]
    own = keys_of_hash_ids(ids[index], block, prompt - prefix, size)
    if prefix == 0:
        return own
    if prefix % size == 0:
        return keys + [("own", key) for key in own]
    # Pages are shifted against the blocks. The block of a page's last token names it, because the id of a block
    # covers all blocks before it.
    last_tokens = (page * size - prefix - 1 for page in range(prefix // size + 1, prompt // size + 1))
    return keys + [(ids[index][last // block], page) for page, last in enumerate(last_tokens, prefix // size)]
