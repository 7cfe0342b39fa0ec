"""Synthetic lengths. The first n requests do not depend on how many are drawn.

Lengths of ``lognormal`` and by quantiles are exponentials, rounded. The last bit of an exponential depends on the C
library and on NumPy's vector width, so that a length could differ by one where a draw is within one unit in the last
place of a half. That is about one draw in 10 to the 12. A million draws were equal with and without AVX-512 and FMA.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from bench.config import FixedWorkload, LognormalWorkload, QuantileWorkload, UniformWorkload
from bench.workload.request_columns import Requests
from bench.workload.streams import Stream, generator

_CANDIDATES = 4096  # log-normal candidates per round. It is fixed, so that num_seqs cannot shift the streams
_TRIES_PER_REQUEST = 100


def fixed_requests(workload: FixedWorkload, *, num_seqs: int, max_seq_len: int) -> Requests:
    """Return ``num_seqs`` prompts of exactly ``workload.length`` tokens, without output.

    Raises:
        ValueError: the length exceeds ``max_seq_len``.
    """
    _check_fits("workload.length", workload.length, max_seq_len)
    return Requests(
        prompt_lens=np.full(num_seqs, workload.length, dtype=np.int64),
        output_lens=np.zeros(num_seqs, dtype=np.int64),
    )


def uniform_requests(workload: UniformWorkload, *, num_seqs: int, max_seq_len: int, seed: int) -> Requests:
    """Return final lengths uniform over ``low .. high``. The prompt is ``prompt_ratio`` of each, at least 1.

    Raises:
        ValueError: ``high`` exceeds ``max_seq_len``.
    """
    _check_fits("workload.high", workload.high, max_seq_len)
    rng = generator(seed, Stream.FINAL_LENS)
    final_lens = rng.integers(workload.low, workload.high, size=num_seqs, endpoint=True)
    prompt_lens = np.maximum(1, np.rint(workload.prompt_ratio * final_lens)).astype(np.int64)
    return Requests(prompt_lens=prompt_lens, output_lens=final_lens - prompt_lens)


def lognormal_requests(workload: LognormalWorkload, *, num_seqs: int, max_seq_len: int, seed: int) -> Requests:
    """Return log-normal, independent prompt and output lengths, rounded, each at least 1.

    A pair longer than ``max_seq_len`` is rejected as a whole and drawn again, because the PagedAttention paper's
    traces leave out such requests. The kept lengths are therefore shorter on average than the workload's means.
    ``Requests.skipped`` is the number of pairs that were rejected before the last kept one.

    Raises:
        ValueError: fewer than about 1 in 100 pairs fit ``max_seq_len``.
    """
    cap = max_seq_len + 1  # represents any longer length, and fits an integer

    def draw(prompt_rng: np.random.Generator, output_rng: np.random.Generator) -> list[NDArray[np.int64]]:
        prompts = _lognormal(prompt_rng, workload.prompt_mean, workload.prompt_sigma, cap)
        return [prompts, _lognormal(output_rng, workload.output_mean, workload.output_sigma, cap)]

    lengths_named = f"workload.prompt_mean={workload.prompt_mean} and workload.output_mean={workload.output_mean}"
    return _kept(draw, lengths_named, num_seqs=num_seqs, max_seq_len=max_seq_len, seed=seed)


def quantile_requests(workload: QuantileWorkload, *, num_seqs: int, max_seq_len: int, seed: int) -> Requests:
    """Return independent prompt and output lengths, each by its quantiles, log-linear between them, rounded.

    A pair longer than ``max_seq_len`` is drawn again, as in ``lognormal_requests``.

    Raises:
        ValueError: fewer than about 1 in 100 pairs fit ``max_seq_len``.
    """

    def draw(*rngs: np.random.Generator) -> list[NDArray[np.int64]]:
        columns = (workload.prompt_quantiles, workload.output_quantiles)
        return [_between(rng.random(_CANDIDATES), workload.levels, q) for rng, q in zip(rngs, columns, strict=True)]

    lengths_named = f"the lengths of workload={workload.name}"
    return _kept(draw, lengths_named, num_seqs=num_seqs, max_seq_len=max_seq_len, seed=seed)


def _between(u: NDArray[np.float64], levels: Sequence[float], quantiles: Sequence[float]) -> NDArray[np.int64]:
    return np.rint(np.exp(np.interp(u, levels, np.log(quantiles)))).astype(np.int64)


_Draw = Callable[[np.random.Generator, np.random.Generator], list[NDArray[np.int64]]]


def _kept(draw: _Draw, lengths_named: str, *, num_seqs: int, max_seq_len: int, seed: int) -> Requests:
    """Draw pairs until ``num_seqs`` of them fit the model. ``lengths_named`` names the workload in an error."""
    rngs = generator(seed, Stream.PROMPT_LENS), generator(seed, Stream.OUTPUT_LENS)
    rounds: list[NDArray[np.int64]] = []
    kept = 0
    while kept < num_seqs:
        drawn = len(rounds) * _CANDIDATES
        if drawn > _TRIES_PER_REQUEST * num_seqs + _CANDIDATES:
            raise ValueError(f"{lengths_named} are too long for model.max_seq_len={max_seq_len}: "
                             f"{kept} of {drawn} drawn requests fit")  # fmt: skip
        prompts, outputs = draw(*rngs)
        rounds.append(np.stack([prompts, outputs]))
        kept += int(np.count_nonzero(prompts + outputs <= max_seq_len))
    pairs = np.concatenate(rounds, axis=1)  # [2, drawn]
    chosen = np.flatnonzero(pairs.sum(axis=0) <= max_seq_len)[:num_seqs]
    rejected = int(chosen[-1]) + 1 - num_seqs
    return Requests(prompt_lens=pairs[0, chosen], output_lens=pairs[1, chosen], skipped=rejected)


def _lognormal(rng: np.random.Generator, mean: float, sigma: float, cap: int) -> NDArray[np.int64]:
    """Return int64 ``[_CANDIDATES]`` in ``1 .. cap``. exp(N(mu, sigma²)) has the mean exp(mu + sigma²/2)."""
    mu = math.log(mean) - sigma**2 / 2
    with np.errstate(over="ignore"):  # infinity is capped like any other long length
        lengths = np.rint(rng.lognormal(mu, sigma, size=_CANDIDATES))
    return np.clip(lengths, 1, cap).astype(np.int64)


def _check_fits(field: str, tokens: int, max_seq_len: int) -> None:
    if tokens > max_seq_len:
        raise ValueError(f"{field}={tokens} must be at most model.max_seq_len={max_seq_len}")
