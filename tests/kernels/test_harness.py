"""The harness around what only our kernels do: quantised caches, windows and soft caps, checked and counted."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from typing import Any

import pytest

from tests.kernels.harness_case import seen_bytes, time_model, time_moves, time_prompts, time_wrongly_scaled

FP8 = {"kv_dtype": "float8_e4m3fn"}


@pytest.mark.parametrize("impl", ["paged_triton", "triton_contiguous"])
@pytest.mark.parametrize("model", [FP8, {"sliding_window": 8}, {"soft_cap": 3.0}], ids=str)
def test_it_is_checked_against_the_same_attention(
    kernels: ProcessPoolExecutor, impl: str, model: dict[str, Any]
) -> None:
    answer = kernels.submit(time_model, impl, model).result()
    assert answer.status == "ok", answer.status_reason
    assert 0 < answer.values["max_rel_error"] <= answer.values["allowed_rel_error"]
    assert answer.values["decode_us"] > 0
    assert "splits" in answer.values["kernel_choice"]


@pytest.mark.parametrize(("impl", "model"), [("paged_triton", FP8 | {"sliding_window": 8}), ("triton_contiguous", {})])
def test_prompts_are_checked_against_the_same_attention(
    kernels: ProcessPoolExecutor, impl: str, model: dict[str, Any]
) -> None:
    answer = kernels.submit(time_prompts, impl, model).result()
    assert answer.status == "ok", answer.status_reason
    assert 0 < answer.values["max_rel_error"] <= answer.values["allowed_rel_error"]
    assert answer.values["prefill_us"] > 0
    assert "the only one" in answer.values["kernel_choice"]


@pytest.mark.parametrize("options", [{}, {"page_moves": "each", "kv_layout": "HND"}], ids=str)
def test_pages_move_bit_for_bit(kernels: ProcessPoolExecutor, options: dict[str, Any]) -> None:
    answer = kernels.submit(time_moves, "paged_triton", options).result()
    assert answer.status == "ok", answer.status_reason
    assert min(answer.values[f"{name}_us"] for name in ("swap_out", "swap_in", "copy_pages")) > 0


def test_scales_are_metadata(kernels: ProcessPoolExecutor) -> None:
    plain, quantised = (kernels.submit(time_model, "paged_triton", model).result().values for model in ({}, FP8))
    assert quantised["metadata_bytes"] == plain["metadata_bytes"] + 2 * 2 * 4  # K and V, two KV heads, float32
    assert quantised["live_bytes"] * 2 == plain["live_bytes"]


def test_a_cache_that_rounds_otherwise_is_incorrect(kernels: ProcessPoolExecutor) -> None:
    answer = kernels.submit(time_wrongly_scaled, "paged_triton").result()
    assert answer.status == "incorrect"
    assert "decode_us" not in answer.values


@pytest.mark.parametrize("window", [None, 1, 8, 1000])
def test_only_what_a_window_shows_must_be_read(window: int | None) -> None:
    seen, lens, token_bytes = seen_bytes(window)
    assert seen == token_bytes * sum(min(length, window or length) for length in lens)
