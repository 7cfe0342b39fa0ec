"""Prefix hits of scenario ``serving``: only first admissions count, and a prefix in front adds to them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

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
