"""Fill a policy with a queue that never ends, until its head is refused. No torch."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle
from typing import NamedTuple

import numpy as np

from bench.config import Config, TraceWorkload
from bench.config.memory import CapacityScenario
from bench.scenarios.filling import CannotRun, Filled, enter, holds_none, new_policy
from bench.workload.requests import Requests, draw_requests, mid_decode_lens, shuffled_trace

FIRST_DRAW = 256
"""Requests drawn at first. The number doubles whenever all of them fit."""


class Offer(NamedTuple):
    """One request of the queue: its lengths, and the tokens that it grows to."""

    prompt_len: int
    output_len: int
    seq_len: int


def fill_until_refusal(config: Config) -> Filled:
    """Admit sequences in order, each grown to the length of ``scenario.held``.

    Args:
        config: resolved, with the name of a policy and a memory budget in bytes.

    Returns:
        The filled policy. Its requests are the admitted ones and the refused one.

    Raises:
        CannotRun: the budget cannot hold even the first sequence.
        ValueError: the workload has no request that fits the model.
    """
    policy = new_policy(config, None)
    taken: list[Offer] = []
    for offer in _offers(config):
        taken.append(offer)
        if not enter(policy, len(taken) - 1, offer.prompt_len, offer.seq_len, offer.prompt_len + offer.output_len):
            break
    if len(taken) == 1:
        raise CannotRun(holds_none(config, policy, taken[0].prompt_len, taken[0].seq_len))
    columns = np.array(taken, dtype=np.int64)  # [offered, 3]
    requests = Requests(prompt_lens=columns[:, 0], output_lens=columns[:, 1])
    return Filled(policy=policy, seq_lens=columns[:-1, 2], requests=requests, prefix_tokens=0)


def _offers(config: Config) -> Iterator[Offer]:
    """Yield the workload without end. A synthetic one is drawn further, and a trace starts again."""
    if isinstance(config.workload, TraceWorkload):
        requests = shuffled_trace(config.workload, max_seq_len=config.model.max_seq_len, seed=config.seed)
        yield from cycle(_offers_of(config, requests))
    number, offered = FIRST_DRAW, 0
    while True:
        requests = draw_requests(
            config.workload, num_seqs=number, max_seq_len=config.model.max_seq_len, seed=config.seed
        )
        yield from _offers_of(config, requests)[offered:]
        number, offered = 2 * number, number


def _offers_of(config: Config, requests: Requests) -> list[Offer]:
    assert isinstance(config.scenario, CapacityScenario)
    seq_lens = requests.final_lens if config.scenario.held == "final" else mid_decode_lens(requests, config.seed)
    columns = (requests.prompt_lens, requests.output_lens, seq_lens)
    return [Offer(*lens) for lens in zip(*(column.tolist() for column in columns), strict=True)]
