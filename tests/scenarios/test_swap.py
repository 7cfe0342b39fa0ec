"""Scenario ``swap``: the moved pages, the comparison of every byte, and its columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from bench.config import build
from bench.plan.question import resolve
from bench.rows.result import Answer
from bench.scenarios.tensors.swap import time_point
from impls.interface import PageCopy, Unsupported
from impls.storage.page_moves import PageMover
from tests.support.points import values

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def answer_of(impl: str, *, length: int = 21, options: dict[str, Any] | None = None, **changes: Any) -> Answer:
    """Three sequences on pages of four tokens, in two layers."""
    groups = {"model": {"name": "tiny", "max_seq_len": 64, "head_dim": 32}, "workload": {"length": length},
              "scenario": {"layers_allocated": 2}, **changes}  # fmt: skip
    config = resolve(build(values(f"impl={impl}", "scenario=swap", "workload=fixed", "measure=quick", num_seqs=3,
                                  page_size=4, device=DEVICE, **groups)), DEVICE)  # fmt: skip
    impl_config = replace(config.impl, options=options or {})
    config = replace(config, measure=replace(config.measure, max_s=0.0), impl=impl_config)
    return time_point({"config": config.to_json(), "ceiling_gbps": None})


@pytest.mark.parametrize("page_moves", ["at_once", "each"])
@pytest.mark.parametrize("policy", ["paged", "prefix"])
def test_moves_are_checked_timed_and_counted(policy: str, page_moves: str) -> None:
    answer = answer_of("paged_torch", options={"page_moves": page_moves}, policy={"name": policy})
    assert answer.status == "ok", answer.status_reason
    got = answer.values
    assert got["page_moves"] == page_moves
    assert got["moved_pages"] == 3 * 6
    assert got["moved_bytes"] == 18 * 4 * 2 * 8 * 32 * 4  # pages, tokens, K and V, heads, head_dim, bytes
    for name in ("swap_out", "swap_in", "copy_pages"):
        assert got[f"{name}_gbps"] == pytest.approx(got["moved_bytes"] / got[f"{name}_us"] / 1000)
        assert len(answer.samples[name]["values_us"]) >= 5


def test_shared_pages_move_once() -> None:
    scenario = {"layers_allocated": 1, "shared_prefix_tokens": 8}
    answer = answer_of("paged_torch", page_layout="shared_prefix", scenario=scenario)
    assert answer.status == "ok", answer.status_reason
    assert answer.values["moved_pages"] == 2 + 3 * 4


def test_pages_that_do_not_fit_are_not_copied() -> None:
    answer = answer_of("paged_torch", length=64)
    assert answer.status == "ok"
    assert "fewer pages are free" in answer.null_reasons["copy_pages_us"]
    assert answer.values["swap_in_us"] > 0


@pytest.mark.parametrize("way", ["swap_out", "swap_in", "copy"])
def test_one_wrong_byte_is_found(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    right = getattr(PageMover, way)

    def without_the_last(self: PageMover, copies: Sequence[PageCopy]) -> None:
        right(self, copies[:-1])

    def one_too_many(self: PageMover, copies: Sequence[PageCopy]) -> None:
        right(self, copies)
        self._pool[-1].view(torch.uint8)[-1, -1, -1, -1] ^= 1

    for wrong in (without_the_last, one_too_many):
        monkeypatch.setattr(PageMover, way, wrong)
        answer = answer_of("paged_torch")
        assert answer.status == "incorrect", wrong
        assert answer.status_reason is not None
        assert "differ from the expected bytes" in answer.status_reason
        assert "swap_out_us" not in answer.values


def test_an_implementation_that_cannot_move_pages_is_unsupported() -> None:
    with pytest.raises(Unsupported, match="contiguous cannot move pages: it has no swap_out"):
        answer_of("contiguous")
    if DEVICE == "cpu":
        with pytest.raises(Unsupported, match=r"measure\.timer=graph cannot time on a CPU"):
            answer_of("paged_torch", measure={"timer": "graph"})
    with pytest.raises(ValueError, match=r"impl\.options\.page_moves=some must be one of at_once, each"):
        answer_of("paged_torch", options={"page_moves": "some"})
