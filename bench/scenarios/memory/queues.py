"""Queues of scenario ``churn``: all requests at once, or one after another over time."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

import numpy as np

from bench.config import Config
from bench.config.memory import ChurnScenario
from bench.scenarios.filling import draw, new_policy
from bench.workload.requests import Requests
from bench.workload.streams import Stream, generator
from impls.interface import Policy
from impls.policies import PagePool, Request, Reserved, SaturatedQueue, SlotSplit, is_paged, is_reserved


class OpenQueue(SaturatedQueue):
    """Requests that arrive over time. Otherwise a step is like that of ``SaturatedQueue``.

    Args:
        policy: an empty page pool or reservation.
        requests: requests in order of arrival.
        arrival_steps: step of the arrival of each, counted from 0, ascending.
    """

    def __init__(self, policy: PagePool | Reserved, requests: Sequence[Request], arrival_steps: Sequence[int]) -> None:
        super().__init__(policy, ())
        self.delayed = 0
        self._coming: deque[tuple[int, Request]] = deque()
        for step, request in zip(arrival_steps, requests, strict=True):
            if self._can_end(request):
                self._coming.append((step, request))
            else:
                self.refused.append(request)

    @property
    def is_loaded(self) -> bool:
        """Whether requests are still to be admitted."""
        return bool(self._coming or self._waiting)

    def steps(self) -> Iterator[SlotSplit]:
        """Run until all requests are served. Yield the split of the pool in each step, before finished ones are freed.

        External fragmentation is measured for the request at the queue's head or, if the queue is
        empty, for the next arrival.
        """
        batch, waiting, coming, step = self.batch, self._waiting, self._coming, 0
        while coming or waiting or batch.num_seqs:
            arrived = self._arrive(step)
            self._admit_waiting()
            self.delayed += min(arrived, len(waiting))
            waiting.extendleft(batch.grow())
            head = waiting[0] if waiting else coming[0][1] if coming else None
            yield batch.policy.split(head.num_tokens, head.final_len) if head else batch.policy.split()
            batch.retire()
            step += 1

    def _arrive(self, step: int) -> int:
        """Move arrived requests into the queue. Return their number."""
        arrived = 0
        while self._coming and self._coming[0][0] <= step:
            self._waiting.append(self._coming.popleft()[1])
            arrived += 1
        return arrived


def make_queue(config: Config, policy: Policy, requests: Requests) -> SaturatedQueue:
    """Return the queue of ``scenario.queue``, over an empty policy.

    Raises:
        ValueError: a request has a single token, and so cannot grow.
    """
    assert isinstance(config.scenario, ChurnScenario)
    assert is_paged(policy) or is_reserved(policy)
    growing = growing_requests(requests)
    if config.scenario.queue == "saturated":
        return SaturatedQueue(policy, growing)
    return OpenQueue(policy, growing, arrival_steps(len(growing), config.scenario.rate, config.seed))


def predict(config: Config) -> None:
    """Check the workload and the budget of scenario ``churn``.

    Raises:
        CannotRun: the budget does not hold a single page.
        ValueError: the workload cannot give the requests, or one of them cannot grow.
    """
    requests, _ = draw(config)
    growing_requests(requests)
    new_policy(config, None)


def arrival_steps(number: int, rate: float, seed: int) -> list[int]:
    """Return the steps of a Poisson process of ``rate`` arrivals per step, ascending."""
    gaps = generator(seed, Stream.ARRIVALS).exponential(1 / rate, size=number)
    steps: list[int] = np.floor(np.cumsum(gaps)).astype(np.int64).tolist()
    return steps


def growing_requests(requests: Requests) -> list[Request]:
    """Return requests in order, each with at least one token to append, so that it holds memory in a step.

    A request without output arrives with one token less and appends its last, so that it holds its
    memory for one step.

    Raises:
        ValueError: a request has only one token.
    """
    if int(requests.final_lens.min()) < 2:
        short = int(requests.final_lens.argmin())
        raise ValueError(f"request {short} of the workload has only one token. scenario=churn needs at least 2")
    prompts = np.minimum(requests.prompt_lens, requests.final_lens - 1).tolist()
    return [
        Request(seq_id, prompt, final)
        for seq_id, (prompt, final) in enumerate(zip(prompts, requests.final_lens.tolist(), strict=True))
    ]
