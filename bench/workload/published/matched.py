"""Resample ShareGPT's turns to single requests with the means that the PagedAttention paper prints.

The published file lists every turn with its whole history as prompt, conversation by conversation. As single
requests, its prompts are fourteen times too long. The first turns alone still differ from the paper's means.
Therefore they are resampled with weights exp(a · prompt + b · output), the smallest change in relative entropy that
gives both means. Results that follow from the means are then by construction. Other results are not.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import logsumexp

from bench.workload.request_columns import Requests
from bench.workload.traces.reader import load_trace

PAPER_MEANS: Final = (161.31, 337.99)
"""Mean prompt and output tokens of ShareGPT (PagedAttention paper, Figure 11)."""
MAX_TURN_TOKENS: Final = 2048
"""The paper keeps requests with fewer tokens than this, prompt and output together."""


def first_turns(requests: Requests) -> NDArray[np.int64]:
    """Return positions of the turns that open a conversation: their prompt is too short to contain the turn before."""
    continues = requests.prompt_lens[1:] >= requests.final_lens[:-1]
    return np.flatnonzero(np.concatenate([[True], ~continues]))


def matching_weights(lens: NDArray[np.int64], means: tuple[float, float]) -> NDArray[np.float64]:
    """Return the weights of least relative entropy with which the rows of ``lens`` have these means.

    Args:
        lens: int64 ``[n, 2]``.
        means: mean of each column, inside the range of the rows.

    Returns:
        float64 ``[n]``, summing to 1.

    Raises:
        ValueError: no such weights were found.
    """
    if not all(low < mean < high for low, mean, high in zip(lens.min(axis=0), means, lens.max(axis=0), strict=True)):
        raise ValueError(f"the lengths cannot be weighted to the means {means}: the means are outside of their range")
    scaled = (lens - np.array(means)) / lens.std(axis=0)

    def slack(tilt: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        logits = scaled @ tilt
        total = logsumexp(logits)
        return float(total), np.exp(logits - total) @ scaled

    found = minimize(slack, np.zeros(2), jac=True, method="BFGS")
    logits = scaled @ found.x
    weights = np.exp(logits - logsumexp(logits))
    if not np.allclose(weights @ lens, means, rtol=1e-3):
        raise ValueError(f"the lengths cannot be weighted to the means {means}: {found.message}")
    return np.asarray(weights)


def match_paper(path: str, *, number: int = 5000, seed: int = 0) -> NDArray[np.int64]:
    """Resample the first turns of the published file to the paper's means.

    Returns:
        int64 ``[number, 2]``: prompt and output tokens.

    Raises:
        TraceError: the file is missing, or does not match its schema.
    """
    requests = load_trace(path).requests
    opening = first_turns(requests)
    lens = np.stack([requests.prompt_lens, requests.output_lens], axis=1)[opening]
    lens = lens[lens.sum(axis=1) < MAX_TURN_TOKENS]
    chosen = np.random.default_rng(seed).choice(len(lens), size=number, p=matching_weights(lens, PAPER_MEANS))
    chosen_lens: NDArray[np.int64] = lens[chosen]
    return chosen_lens


def write_matched(path: str, target: Path) -> None:
    """Write ``match_paper`` in the schema of paper-matched lengths (no arrivals)."""
    lines = [f",{prompt},{output}" for prompt, output in match_paper(path).tolist()]
    target.write_text("\n".join(["arrival_s,prompt_len,output_len", *lines]) + "\n", encoding="utf-8")
