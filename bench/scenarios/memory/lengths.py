"""Scenario ``lengths``: means and distributions of a workload's lengths (PagedAttention paper, Figure 11). No torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.config import Config, build
from bench.rows.result import Answer
from bench.scenarios.bookkeeping import digest
from bench.scenarios.exact_statistics import quantile
from bench.scenarios.filling import draw
from impls.spec import ceil_div

BINS = 32


def describe_lengths(argument: Mapping[str, Any]) -> Answer:
    """Return means and histograms of the requests of a point.

    Args:
        argument: ``config`` (resolved, plain containers).
    """
    requests, _ = draw(build(argument["config"]))
    columns = {"prompt": requests.prompt_lens, "output": requests.output_lens}
    return Answer(
        values={
            "skipped_requests": requests.skipped,
            "batch_digest": digest(list(columns.values())),
            "prompt_len_mean": int(requests.prompt_lens.sum()) / len(requests),
            "output_len_mean": int(requests.output_lens.sum()) / len(requests),
            "curves": json.dumps(_histograms(columns)),
        }
    )


def predict(config: Config) -> None:
    """Check the workload of scenario ``lengths``.

    Raises:
        ValueError: the workload cannot give ``num_seqs`` requests that fit the model.
    """
    draw(config)


def _histograms(columns: Mapping[str, NDArray[np.int64]]) -> dict[str, list[float]]:
    """Return shares of the requests by length, in bins of equal width from 0 up to the longest 1 in 1,000."""
    top = max(ceil_div(quantile(sorted(lens.tolist()), 999, 1000), 1000) for lens in columns.values())
    edges = np.linspace(0, top, BINS + 1)  # multiples of top / 32, which are exact in floating point
    shares = {name: np.histogram(lens, edges)[0] / len(lens) for name, lens in columns.items()}
    return {"from_tokens": edges[:-1].tolist(), **{name: share.round(6).tolist() for name, share in shares.items()}}
