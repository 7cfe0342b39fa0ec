"""A request of scenario ``serving`` and its sequences: one, or several samples or beams of one prompt."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import MutableSequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from bench.workload.streams import Stream

Forks = tuple[tuple[int, int], ...]
"""(parent, child) of each beam that ends and becomes a copy of a parent."""


@dataclass(slots=True, eq=False)
class Group:
    """The sequences of one request, which always have equal length.

    A sequence with ``generated`` tokens of output has ``prompt + generated - 1`` tokens in the pool, because the newest
    gets its slot in the step that reads it.

    Attributes:
        index: place of the request in the order of arrival.
        prompt: tokens of the prompt.
        output: tokens that each sequence is to generate.
        seq_ids: ids of the sequences in the policy.
        generated: output tokens of each, at its last entry or exit of the batch.
        token_fs: time of the last token before its last exit or entry of the batch.
        base: while it runs, ``generated`` minus the clock of the batch.
        arrival_fs: arrival of the request. An earlier one is served first.
    """

    index: int
    prompt: int
    output: int
    seq_ids: range
    generated: int = 0
    token_fs: int = 0
    base: int = 0
    arrival_fs: int = 0

    @property
    def final_len(self) -> int:
        """Tokens of prompt and output together."""
        return self.prompt + self.output

    @property
    def stored(self) -> int:
        """Tokens of each sequence in the pool after an admission, first or repeated."""
        return self.prompt + self.generated


def insert_by_arrival(queue: MutableSequence[Group], group: Group) -> None:
    """Insert a request into a queue in order of arrival, behind requests of the same arrival time.

    The PagedAttention paper's scheduler appends a request to its new queue and sorts this queue by arrival, so a
    preempted request is behind those of its arrival time.
    """
    queue.insert(bisect_right(queue, group.arrival_fs, key=lambda other: other.arrival_fs), group)


class Entry(NamedTuple):
    """The work that the admission of a request adds to the step that computes its prompt.

    Attributes:
        tokens: tokens to compute.
        context: tokens found in the pool, whose K and V are read.
        pairs: (query, key) pairs of the attention.
    """

    tokens: int
    context: int
    pairs: int


def entry_of(group: Group, found: int) -> Entry:
    """Return the work of a prompt with ``found`` leading tokens in the pool. The last token is always computed.

    Several sequences share the prompt. Tokens that each generated before a preemption are computed for each.
    """
    count, prompt, generated = len(group.seq_ids), group.prompt, group.generated
    if not generated:
        found = min(found, prompt - 1)
        return Entry(prompt - found, found, _triangle(prompt) - _triangle(found))
    pairs = _triangle(prompt) - _triangle(found) + count * (_triangle(prompt + generated) - _triangle(prompt))
    return Entry(prompt - found + count * generated, found, pairs)


def _triangle(tokens: int) -> int:
    """Return the pairs of causal attention: token i meets itself and all earlier tokens."""
    return tokens * (tokens + 1) // 2


class Beams:
    """The parents of beams, by a stated survival model.

    After each token each beam of a request descends, with probability ``turnover``, from a uniformly drawn beam of the
    request (itself included), else from itself. With 1 this is neutral resampling (Wright and Fisher's model): no beam
    is better than another, and nothing is fitted. Draws depend only on the seed, the request and the token, so that
    scheduling does not change them.

    Args:
        seed: seed of every draw.
        width: beams per request.
        turnover: 0 (beams never cross) to 1.
    """

    def __init__(self, seed: int, width: int, turnover: float) -> None:
        self._seed = seed
        self._width = width
        self._turnover = turnover
        self._drawn: dict[int, list[Forks]] = {}

    def forks(self, group: Group, generated: int) -> Forks:
        """Return (parent, child) of each beam that ends after token ``generated`` and becomes a copy of a parent.

        Beams first differ by their first token, so nothing is copied before the second.
        """
        if generated < 2:
            return ()
        drawn = self._drawn.get(group.index)
        if drawn is None:
            drawn = self._drawn[group.index] = self._draw(group)
        return drawn[generated]

    def forget(self, group: Group) -> None:
        """Drop the draws of a request that has ended."""
        self._drawn.pop(group.index, None)

    def _draw(self, group: Group) -> list[Forks]:
        """Draw the forks after each token."""
        rng = np.random.default_rng([self._seed, int(Stream.BEAMS), group.index])
        shape = (group.output + 1, self._width)
        crosses = rng.random(shape) < self._turnover
        parents = np.where(crosses, rng.integers(self._width, size=shape), np.arange(self._width))
        return [forks_of(tuple(row)) for row in parents.tolist()]


@lru_cache(maxsize=2**16)
def forks_of(parents: tuple[int, ...]) -> Forks:
    """Return (parent, child) of each beam without descendants, which copies a beam with two or more.

    Args:
        parents: the beam from which each beam descends.

    >>> forks_of((1, 1, 2, 1))
    ((1, 0), (1, 3))
    """
    survivors = set(parents)
    dead = [beam for beam in range(len(parents)) if beam not in survivors]
    twice = []
    for parent in parents:
        if parent in survivors:
            survivors.remove(parent)
        else:
            twice.append(parent)
    return tuple(zip(twice, dead, strict=True))
