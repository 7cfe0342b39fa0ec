"""When requests arrive: Poisson, the PagedAttention paper's 10 ms quanta, and gamma. Seeded, pure NumPy.

A gap is never capped. Some tools cut long gaps at three means, which makes the true rate 5 % too high.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Final

import numpy as np
from numpy.typing import NDArray

from bench.workload.streams import Stream, generator

QUANTUM_S: Final = 0.01
"""Requests arrive at whole multiples of this in the traces of the PagedAttention paper's authors."""
_BLOCK: Final = 4096  # gaps or quanta drawn at once. It is fixed, so that the first n arrivals do not depend on n

Times = NDArray[np.float64]


def arrival_times(
    kind: str, *, rate: float, cv: float, seed: int, number: int, duration_s: float | None = None
) -> Times:
    """Return the seconds since the start at which requests arrive, ascending.

    Args:
        kind: ``poisson``, ``poisson_10ms``, ``gamma``, or ``saturated`` (all at once).
        rate: requests per second.
        cv: coefficient of variation of the gaps of ``gamma``. 1 is a Poisson process.
        seed: seed of every draw.
        number: number of requests, unless ``duration_s`` is given.
        duration_s: if given, return all requests that arrive in this time.

    Raises:
        ValueError: no request arrives in that time.
    """
    if kind == "saturated":
        return np.zeros(number)
    drawn: list[Times] = []
    arrived = 0
    for block, until_s in _blocks(kind, rate, cv, generator(seed, Stream.ARRIVALS)):
        drawn.append(block)
        arrived += len(block)
        if until_s >= duration_s if duration_s is not None else arrived >= number:
            break
    times = np.concatenate(drawn)
    if duration_s is None:
        return times[:number]
    times = times[times < duration_s]
    if len(times) == 0:
        raise ValueError(f"scenario.duration_s={duration_s} ends before the first arrival at scenario.rate={rate}")
    return times


def _blocks(kind: str, rate: float, cv: float, rng: np.random.Generator) -> Iterator[tuple[Times, float]]:
    """Yield arrival times without end, one block at a time, and the time up to which they are complete."""
    if kind == "poisson_10ms":
        for block in count():
            places = np.repeat(np.arange(_BLOCK), rng.poisson(rate * QUANTUM_S, size=_BLOCK))
            yield np.asarray(QUANTUM_S * (block * _BLOCK + places), dtype=np.float64), QUANTUM_S * _BLOCK * (block + 1)
    shape = 1 / cv**2 if kind == "gamma" else 1.0
    start = 0.0
    while True:
        times: Times = start + np.cumsum(rng.gamma(shape, 1 / (rate * shape), size=_BLOCK), dtype=np.float64)
        start = float(times[-1])
        yield times, start
