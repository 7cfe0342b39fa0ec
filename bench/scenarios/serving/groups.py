"""A request of scenario ``serving`` and its sequences: one, or several samples or beams of one prompt."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from bench.workload.streams import Stream

Forks = tuple[tuple[int, int], ...]
"""(parent, child) of each beam that dies and becomes a copy of a parent."""


@dataclass(slots=True, eq=False)
class Group:
    """The sequences of one request, which are always of one length.

    A sequence with ``generated`` tokens of output has ``prompt + generated - 1`` of them in the pool: the newest
    gets its slot in the step that reads it.

    Attributes:
        index: the request's place in the order of arrival; a smaller one is served first.
        prompt: tokens of the prompt.
        output: tokens that each sequence is to generate.
        seq_ids: what the policy calls the sequences.
        generated: output tokens of each, when it last entered or left the batch.
        token_fs: when it got the token before it last left the batch, or entered it.
        base: while it runs, ``generated`` less the batch's clock.
    """

    index: int
    prompt: int
    output: int
    seq_ids: range
    generated: int = 0
    token_fs: int = 0
    base: int = 0

    @property
    def final_len(self) -> int:
        """Prompt and output, in tokens."""
        return self.prompt + self.output

    @property
    def stored(self) -> int:
        """Tokens of each sequence that the pool holds when it is taken in, or taken in again."""
        return self.prompt + self.generated


class Entry(NamedTuple):
    """What taking a request in means for the step that computes its prompt.

    Attributes:
        tokens: tokens to compute.
        context: tokens found in the pool, whose K and V are read.
        pairs: (query, key) pairs of the attention.
    """

    tokens: int
    context: int
    pairs: int


def entry_of(group: Group, found: int) -> Entry:
    """The work of a prompt of which ``found`` leading tokens are in the pool; the last is always computed.

    Several sequences share the prompt; what each has generated before a preemption is computed for each.
    """
    count, prompt, generated = len(group.seq_ids), group.prompt, group.generated
    if not generated:
        found = min(found, prompt - 1)
        return Entry(prompt - found, found, _triangle(prompt) - _triangle(found))
    pairs = _triangle(prompt) - _triangle(found) + count * (_triangle(prompt + generated) - _triangle(prompt))
    return Entry(prompt - found + count * generated, found, pairs)


def _triangle(tokens: int) -> int:
    """Pairs of causal attention: token i meets itself and all before it."""
    return tokens * (tokens + 1) // 2


class Beams:
    """Which beam descends from which, by a stated survival model.

    After each token each beam of a request, with probability ``turnover``, descends from one of the request's
    beams drawn uniformly (itself included), else from itself. With 1 this is neutral resampling (Wright and
    Fisher's model): no beam is better than another, and nothing is fitted. Draws depend on the seed, the request
    and the token only, so that scheduling does not change them.

    Args:
        seed: decides every draw.
        width: beams per request.
        turnover: 0 (beams never cross) to 1.
    """

    def __init__(self, seed: int, width: int, turnover: float) -> None:
        self._seed = seed
        self._width = width
        self._turnover = turnover
        self._drawn: dict[int, list[Forks]] = {}

    def forks(self, group: Group, generated: int) -> Forks:
        """(parent, child) of each beam that dies after token ``generated`` and becomes a copy of a parent.

        Beams first differ by their first token, so that before the second nothing is copied.
        """
        if generated < 2:
            return ()
        drawn = self._drawn.get(group.index)
        if drawn is None:
            drawn = self._drawn[group.index] = self._draw(group)
        return drawn[generated]

    def forget(self, group: Group) -> None:
        """Drop what was drawn for a request that has ended."""
        self._drawn.pop(group.index, None)

    def _draw(self, group: Group) -> list[Forks]:
        """Who dies after each token."""
        rng = np.random.default_rng([self._seed, int(Stream.BEAMS), group.index])
        shape = (group.output + 1, self._width)
        crosses = rng.random(shape) < self._turnover
        parents = np.where(crosses, rng.integers(self._width, size=shape), np.arange(self._width))
        return [forks_of(tuple(row)) for row in parents.tolist()]


@lru_cache(maxsize=2**16)
def forks_of(parents: tuple[int, ...]) -> Forks:
    """(parent, child) of each beam that nobody descends from and that becomes a copy of one that two or more do.

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
