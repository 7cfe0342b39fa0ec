"""Prefix hits of scenario ``serving``: only first admissions count, and a prefix in front adds to them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench.plan.warnings import warnings
from bench.rows.result import Answer
from bench.scenarios.serving.scenario import run_serving
from tests.support.points import Composed, plan_of


def serve(path: Path, lines: list[dict[str, Any]], scenario: dict[str, Any], **changes: Any) -> Answer:
    path.write_text("\n".join(map(json.dumps, lines)))
    point = Composed(
        "scenario=serving",
        "workload=trace",
        "policy=prefix",
        workload={"path": str(path)},
        scenario={"arrivals": "trace", **scenario},
        num_seqs=len(lines),
        **changes,
    )
    return run_serving({"config": plan_of(point).points[0].config.to_json()})


@pytest.mark.parametrize("engine", ["events", "steps"])
@pytest.mark.parametrize("pages", [10, 11, 12, 13, 14])
def test_a_preempted_request_that_finds_its_own_pages_is_no_hit(tmp_path: Path, pages: int, engine: str) -> None:
    """vLLM counts first admissions only since issue #25780."""
    lines = [{"timestamp": 0, "input_length": 64, "output_length": 64, "hash_ids": [index]} for index in range(2)]
    answer = serve(tmp_path / "t.jsonl", lines, {"engine": engine}, page_size=16, memory_budget=str(pages * 16 * 8192))
    assert answer.values["preemptions"] > 0
    assert answer.values["prefix_hit_ratio"] == 0
    assert answer.values["prefix_hit_tokens"] == 0


def shared(number: int) -> list[dict[str, Any]]:
    """Prompts of 2,048 tokens, of which the first 1,024 are common."""
    return [{"timestamp": 1000 * index, "input_length": 2048, "output_length": 4,
             "hash_ids": [1, 2, 100 + 2 * index, 101 + 2 * index]} for index in range(number)]  # fmt: skip


@pytest.mark.parametrize(
    ("prefix", "hits"),
    [
        (0, 19 * 1024),
        (512, 19 * 1536),
        (1024, 19 * 2048),
        (16, 19 * 1024),  # two whole pages: 16 + 1,008 tokens
        (500, 19 * 1024),
        (700, 19 * 1536),  # 1,724 common tokens
    ],
)
def test_a_shared_prefix_adds_to_the_prefixes_of_a_trace(tmp_path: Path, prefix: int, hits: int) -> None:
    answer = serve(tmp_path / "t.jsonl", shared(20), {"shared_prefix_tokens": prefix}, page_size=512,
                   memory_budget="4GiB", model={"max_seq_len": 8192})  # fmt: skip
    assert answer.values["prefix_hit_tokens"] == hits
    assert answer.values["prefix_hit_ratio"] == hits / (20 * (2048 + prefix))


def test_blocks_that_do_not_fit_the_page_are_refused_when_planned(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="page_size=48 must divide hash_block=512"):
        serve(tmp_path / "t.jsonl", shared(2), {}, page_size=48, memory_budget="4GiB", model={"max_seq_len": 8192})


@pytest.mark.parametrize(("repeat", "ratio"), [("fresh", 0.0), ("same", 9 * 511 / 5120)])
def test_repeats_of_a_short_trace_share_nothing_by_default(tmp_path: Path, repeat: str, ratio: float) -> None:
    line = {"timestamp": 0, "input_length": 512, "output_length": 4, "hash_ids": [3]}
    path = tmp_path / "t.jsonl"
    path.write_text(json.dumps(line))
    point = Composed("scenario=serving", "workload=trace", "policy=prefix", num_seqs=10, memory_budget="1GiB",
                     workload={"path": str(path), "repeat": repeat}, page_size=512)  # fmt: skip
    plan = plan_of(point)
    values = run_serving({"config": plan.points[0].config.to_json()}).values
    assert values["prefix_hit_ratio"] == ratio
    assert values["repeated_requests"] == 9, "the last token of a prompt is always computed"
    assert any("9 of 10 requests are repeats of the trace" in note for note in warnings(plan.points, None))
