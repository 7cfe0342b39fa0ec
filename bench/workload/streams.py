"""Independent random streams, one per purpose, so that one kind of draw never changes another."""

from __future__ import annotations

from enum import IntEnum

import numpy as np


class Stream(IntEnum):
    """Purpose of a random stream. A number never changes, because it decides every seeded draw of its stream."""

    FINAL_LENS = 1
    PROMPT_LENS = 2
    OUTPUT_LENS = 3
    TRACE_SAMPLE = 4
    MID_DECODE = 5
    SHUFFLED_PAGES = 6
    AGED_PAGES = 7
    ARRIVALS = 8
    BEAMS = 9
    TICKS = 10


def generator(seed: int, stream: Stream) -> np.random.Generator:
    """Return the generator of one purpose under one seed (``seed`` is at least 0)."""
    return np.random.default_rng([seed, int(stream)])
