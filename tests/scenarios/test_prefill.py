"""Scenario ``prefill``: its query tokens, the check before timing, and its columns."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from bench.config import Config, build
from bench.measure.timers.work import RotationDefeated, check_rotation
from bench.plan.question import effective, resolve
from bench.rows.result import Answer
from bench.scenarios.filling import draw, fill
from bench.scenarios.tensors.filled import make_cache
from bench.scenarios.tensors.output_check import Audit
from bench.scenarios.tensors.prefill import prefilling, queries_of, time_point, weigh_point
from bench.scenarios.tensors.prefill_timing import PrefillStep
from impls.cpu.sdpa_prefill import PrefillsWithSdpa
from impls.interface import PrefillKVCache, Unsupported
from tests.support.points import values

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SHAPE = {"max_seq_len": 300, "head_dim": 32, "num_query_heads": 4, "num_kv_heads": 2, "num_parameters": 10_000}


def point(impl: str, **changes: Any) -> Config:
    """Prompts of 5 to 300 tokens, so that the reference takes some of them in two blocks."""
    groups = {"model": {"name": "tiny", **SHAPE}, "workload": {"low": 5, "high": 300, "prompt_ratio": 1.0}, **changes}
    config = resolve(build(values(f"impl={impl}", "scenario=prefill", "measure=quick", num_seqs=4, device=DEVICE,
                                  **groups)), DEVICE)  # fmt: skip
    return replace(config, measure=replace(config.measure, max_s=0.0))


def answer_of(config: Config) -> Answer:
    return time_point({"config": config.to_json(), "ceiling_gbps": 10.0})


@pytest.mark.parametrize(
    ("impl", "scenario"),
    [
        ("contiguous", {}),
        ("paged_torch", {"chunk_tokens": 7}),
        ("paged_torch", {"chunk_tokens": 40, "cached_tokens": 100, "linear_layers": True}),
    ],
)
def test_a_step_is_checked_timed_and_counted(impl: str, scenario: dict[str, Any]) -> None:
    config = point(impl, scenario=scenario)
    answer = answer_of(config)
    assert answer.status == "ok", answer.status_reason
    got = answer.values
    assert 0 < got["max_rel_error"] <= got["allowed_rel_error"]
    prompts = resolve(replace(config, scenario=replace(config.scenario, chunk_tokens=0)), DEVICE)
    cached = scenario.get("cached_tokens", 0)
    spans = []
    for prompt_len in draw(prompts)[1].tolist():
        held = min(cached, prompt_len - 1)
        spans.append((held, min(held + scenario.get("chunk_tokens", prompt_len), prompt_len)))
    assert got["prefill_tokens"] == sum(end - start for start, end in spans)
    assert got["live_tokens"] == sum(end for _, end in spans)
    pairs = sum(token + 1 for start, end in spans for token in range(start, end))
    assert got["prefill_tflops"] == pytest.approx(4 * 4 * 32 * pairs / got["prefill_us"] / 1e6)
    assert got["prefill_us_per_ktoken"] == pytest.approx(1000 * got["prefill_us"] / got["prefill_tokens"])
    assert ("linear_us" in got) == ("linear" in answer.samples) == bool(scenario.get("linear_layers"))
    assert got["sdpa_backend"]
    assert weigh_point({"config": config.to_json()}).values["storage_bytes"] > 0


def test_a_wrong_answer_is_never_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    right = PrefillsWithSdpa.prefill

    def one_token_less(self: Any, layer: int, query: Tensor, batch: Any) -> Tensor:
        out = right(self, layer, query, batch)
        out[-1] = out[-2]
        return out

    monkeypatch.setattr(PrefillsWithSdpa, "prefill", one_token_less)
    answer = answer_of(point("paged_torch"))
    assert answer.status == "incorrect"
    assert "prefill_us" not in answer.values


def test_an_implementation_without_prefill_is_unsupported() -> None:
    class DecodesOnly:
        pass

    with pytest.raises(Unsupported, match="paged_flex computes no prompts: it has no prefill"):
        prefilling(DecodesOnly(), point("paged_flex"))  # type: ignore[arg-type]


def test_the_key_holds_the_prefill_parameters() -> None:
    question = effective(point("paged_torch"))
    assert question["scenario"] == {"name": "prefill"}, "defaults are left out"
    assert "num_parameters" not in question["model"]
    with_weights = effective(point("paged_torch", scenario={"linear_layers": True}))
    assert with_weights["model"]["num_parameters"] == SHAPE["num_parameters"]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"page_layout": "shared_prefix", "scenario": {"cached_tokens": 255}},
         "scenario.cached_tokens=255 must be at least scenario.shared_prefix_tokens=256"),
        ({"scenario": {"linear_layers": True}, "model": {"name": "tiny", **SHAPE, "num_parameters": 0}},
         "model.num_parameters=0 must be at least 1 with scenario.linear_layers=true"),
        ({"scenario": {"chunk_tokens": -1}}, "scenario.chunk_tokens=-1 must be at least 0"),
    ],
)  # fmt: skip
def test_wrong_prefill_parameters_are_refused(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        point("paged_torch", **changes)


def test_shared_prompts_are_cached() -> None:
    config = point("paged_torch", page_layout="shared_prefix", page_size=4,
                   scenario={"cached_tokens": 16, "shared_prefix_tokens": 16})  # fmt: skip
    filled = fill(config, *draw(config))
    assert filled.prefix_tokens == 16
    assert answer_of(config).status == "ok"
    lengths = zip(filled.seq_lens, queries_of(config, filled), strict=True)
    assert all(seq_len - num_queries >= 16 for seq_len, num_queries in lengths if seq_len > 16)


def test_the_rotation_takes_other_queries_too(monkeypatch: pytest.MonkeyPatch) -> None:
    config = point("paged_torch")
    filled = fill(config, *draw(config))
    num_queries = queries_of(config, filled)
    cache = make_cache(config, filled.policy, num_layers=2)
    assert isinstance(cache, PrefillKVCache)
    batch = cache.prepare_prefill(range(len(num_queries)), num_queries)
    for tensor in cache.tensors:
        tensor.fill_(0.5)
    queries = torch.randn((sum(num_queries), 4, 32), device=DEVICE).expand(2, -1, -1, -1).clone()
    newest = torch.zeros((sum(num_queries), 2, 32)), torch.zeros((sum(num_queries), 2, 32))
    step = PrefillStep(config=config, num_queries=num_queries, cache=cache, queries=queries, newest=newest, batch=batch,
                       kv_bytes=1, audit=Audit(queries=[], variants=[]))  # fmt: skip
    check_rotation(step.prefill(2))
    right = cache.prefill
    monkeypatch.setattr(cache, "prefill", lambda layer, query, batch: right(0, queries[0], batch))
    with pytest.raises(RotationDefeated):
        check_rotation(step.prefill(2))
