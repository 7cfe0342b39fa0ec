"""Draw requests of a configured workload, and their lengths in a decode step."""

from __future__ import annotations

import typing
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from bench.config import FixedWorkload, LognormalWorkload, QuantileWorkload, TraceWorkload, UniformWorkload, Workload
from bench.workload.lengths import fixed_requests, lognormal_requests, quantile_requests, uniform_requests
from bench.workload.replay_window import without_start
from bench.workload.request_columns import Requests
from bench.workload.streams import Stream, generator
from bench.workload.traces.reader import load_trace

__all__ = ["Requests", "draw_requests", "mid_decode_lens", "shuffled_trace", "trace_requests"]


def draw_requests(workload: Workload, *, num_seqs: int, max_seq_len: int, seed: int) -> Requests:
    """Return requests of a workload, none longer than the model supports.

    The first n requests of a synthetic workload do not depend on ``num_seqs``. The sample of n requests of a trace is
    part of each larger sample.

    Args:
        workload: one of the group's configurations.
        num_seqs: number of requests.
        max_seq_len: most tokens of prompt and output together.
        seed: seed of every draw.

    Raises:
        ValueError: the workload cannot give ``num_seqs`` requests of at most ``max_seq_len`` tokens.
        TraceError: a trace file is missing, or does not match its schema.
    """
    match workload:
        case FixedWorkload():
            return fixed_requests(workload, num_seqs=num_seqs, max_seq_len=max_seq_len)
        case UniformWorkload():
            return uniform_requests(workload, num_seqs=num_seqs, max_seq_len=max_seq_len, seed=seed)
        case LognormalWorkload():
            return lognormal_requests(workload, num_seqs=num_seqs, max_seq_len=max_seq_len, seed=seed)
        case QuantileWorkload():
            return quantile_requests(workload, num_seqs=num_seqs, max_seq_len=max_seq_len, seed=seed)
        case TraceWorkload():
            return _sample_trace(workload, num_seqs=num_seqs, max_seq_len=max_seq_len, seed=seed)
        case _:
            typing.assert_never(workload)


def mid_decode_lens(requests: Requests, seed: int) -> NDArray[np.int64]:
    """Return int64 ``[n]``, the tokens in the cache of each request at a random point of its decoding.

    This is ``prompt + floor(u * output)`` with u uniform in [0, 1), the newest token included.
    """
    progress = generator(seed, Stream.MID_DECODE).random(len(requests))
    return requests.prompt_lens + np.floor(progress * requests.output_lens).astype(np.int64)


def trace_requests(workload: TraceWorkload) -> Requests:
    """Return all requests of a trace in file order, without the skipped ones, cut to the workload's limits.

    Raises:
        TraceError: the file is missing, does not match its schema, or has no request after the skipped ones.
    """
    return _cut(without_start(load_trace(workload.path, workload.block_tokens).requests, workload), workload)


def shuffled_trace(workload: TraceWorkload, *, max_seq_len: int, seed: int) -> Requests:
    """Return all requests of a trace that fit, in a seeded order. The sample of n requests is the first n, sorted.

    Raises:
        ValueError: no request fits ``max_seq_len``.
        TraceError: the file is missing, or does not match its schema.
    """
    requests, order, too_long = _shuffled(workload, max_seq_len, seed)
    if len(order) == 0:
        raise ValueError(f"workload.path={workload.path} has no request of at most model.max_seq_len={max_seq_len}")
    return requests.take(order, skipped=too_long)


def _shuffled(workload: TraceWorkload, max_seq_len: int, seed: int) -> tuple[Requests, NDArray[np.int64], int]:
    """Return a whole trace, the positions of fitting requests in a seeded order, and how many do not fit."""
    requests = trace_requests(workload)
    fitting = np.flatnonzero(requests.final_lens <= max_seq_len)
    return requests, generator(seed, Stream.TRACE_SAMPLE).permutation(fitting), len(requests) - len(fitting)


def _cut(requests: Requests, workload: TraceWorkload) -> Requests:
    """Cut lengths to the workload's limits, as the PagedAttention paper cuts conversations (section 6.4)."""
    most_prompt, most_output = workload.most_prompt_tokens, workload.most_output_tokens
    if most_prompt is None and most_output is None:
        return requests
    keeps_hashes = most_prompt is None
    return replace(
        requests,
        prompt_lens=np.minimum(requests.prompt_lens, most_prompt) if most_prompt else requests.prompt_lens,
        output_lens=requests.output_lens if most_output is None else np.minimum(requests.output_lens, most_output),
        hash_ids=requests.hash_ids if keeps_hashes else None,
        hash_block_tokens=requests.hash_block_tokens if keeps_hashes else None,
    )


def _sample_trace(workload: TraceWorkload, *, num_seqs: int, max_seq_len: int, seed: int) -> Requests:
    """Return a sample without replacement of the requests that fit, in file order."""
    requests, order, too_long = _shuffled(workload, max_seq_len, seed)
    if num_seqs > len(order):
        raise ValueError(
            f"num_seqs={num_seqs} is more than the {len(order)} requests of workload.path={workload.path} that fit "
            f"model.max_seq_len={max_seq_len} ({too_long} are longer)"
        )
    return requests.take(np.sort(order[:num_seqs]), skipped=too_long)
