"""Scenarios through a Triton cache, as a point's process runs them, in a worker that interprets."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from bench.config import build
from bench.plan.points import resolve
from bench.rows.result import Answer
from bench.scenarios.filling import draw, fill
from bench.scenarios.tensors import filled as tensors
from bench.scenarios.tensors import prefill, swap
from bench.scenarios.tensors.decode import time_point
from bench.scenarios.tensors.decode_timing import seen_layer_bytes
from tests.support.points import values

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def _config(name: str, model: dict[str, Any], kind: str = "decode", **changes: Any) -> Any:
    shape = {"max_seq_len": 64, "head_dim": 32, "num_query_heads": 4, "num_kv_heads": 2, "dtype": "float16", **model}
    config = resolve(build(values(f"impl={name}", f"scenario={kind}", "measure=quick", num_seqs=2, page_size=4,
                                  device=DEVICE, model={"name": "tiny", **shape}, **changes)), DEVICE)  # fmt: skip
    workload = replace(config.workload, low=10, high=40)  # type: ignore[call-arg]
    return replace(config, workload=workload, measure=replace(config.measure, max_s=0.0))


def time_model(impl: str, model: dict[str, Any]) -> Answer:
    """The answer of the timing process for a model whose attention is not plain."""
    return time_point({"config": _config(impl, model).to_json(), "ceiling_gbps": 1.0})


def time_prompts(impl: str, model: dict[str, Any]) -> Answer:
    """Return the answer of the timing process for a chunk of each prompt, behind a prefix."""
    chunks = {"chunk_tokens": 6, "cached_tokens": 5}
    return prefill.time_point(
        {"config": _config(impl, model, "prefill", scenario=chunks).to_json(), "ceiling_gbps": 1.0}
    )


def time_moves(impl: str, options: dict[str, Any]) -> Answer:
    """Return the answer of the timing process that moves all pages."""
    config = _config(impl, {"kv_dtype": "float8_e4m3fn"}, "swap", impl={"options": options})
    return swap.time_point({"config": config.to_json(), "ceiling_gbps": 1.0})


def time_wrongly_scaled(impl: str) -> Answer:
    """The same, the reference expecting scales a tenth larger than the cache is given."""
    rounded = tensors._rounded

    def otherwise(rows: Tensor, scales: Tensor, dtype: torch.dtype) -> Tensor:
        return rounded(rows, 1.1 * scales, dtype)

    with mock.patch.object(tensors, "_rounded", otherwise):
        return time_model(impl, {"kv_dtype": "float8_e4m3fn"})


def seen_bytes(window: int | None) -> tuple[int, list[int], int]:
    """Bytes that a layer's attention must read, the lengths, and a token's bytes."""
    config = _config("contiguous", {"sliding_window": window})
    filled = fill(config, *draw(config))
    return seen_layer_bytes(config, filled), filled.seq_lens.tolist(), config.model.token_bytes_per_layer
