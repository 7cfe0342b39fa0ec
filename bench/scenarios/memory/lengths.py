"""Scenario ``lengths``: what a workload's lengths are like (PagedAttention paper, Figure 11). No torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.config import build
from bench.rows.result import Answer
from bench.scenarios.bookkeeping import digest
from bench.scenarios.filling import draw

BINS = 32


def describe_lengths(argument: Mapping[str, Any]) -> Answer:
    """Means and histograms of the requests that a point would offer.

    Args:
        argument: ``config`` (resolved, plain containers).
    """
    requests, _ = draw(build(argument["config"]))
    columns = {"prompt": requests.prompt_lens, "output": requests.output_lens}
    return Answer(
        values={
            "skipped_requests": requests.skipped,
            "batch_digest": digest(list(columns.values())),
            "prompt_len_mean": float(requests.prompt_lens.mean()),
            "output_len_mean": float(requests.output_lens.mean()),
            "curves": json.dumps(_histograms(columns)),
        }
    )


def _histograms(columns: Mapping[str, NDArray[np.int64]]) -> dict[str, list[float]]:
    """Shares of the requests by length, in bins of one width from 0 up to the longest 1 in 1,000."""
    top = max(float(np.quantile(lens, 0.999)) for lens in columns.values())
    edges = np.linspace(0, np.ceil(top), BINS + 1)
    shares = {name: np.histogram(lens, edges)[0] / len(lens) for name, lens in columns.items()}
    return {"from_tokens": edges[:-1].tolist(), **{name: share.round(6).tolist() for name, share in shares.items()}}
