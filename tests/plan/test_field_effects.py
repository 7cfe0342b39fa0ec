"""A field that is in the key of a point changes its row, or the plan has a warning. Otherwise it is null in the key."""

from __future__ import annotations

import dataclasses
import importlib
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from bench.config import Config, build
from bench.config.groups import PolicyConfig
from bench.config.workloads import TraceWorkload
from bench.plan.question import effective, key_of, resolve
from bench.plan.warnings import idle_options, warnings
from bench.rows.columns import BY_NAME
from impls.spec import ModelSpec
from tests.support.points import Composed, plan_of

TRACE = str(Path(__file__).parents[1] / "workload" / "fixtures" / "mooncake.jsonl")

BASE: dict[str, dict[str, Any]] = {
    "capacity": {"memory_budget": "16MiB"},
    "churn": {"memory_budget": "16MiB", "num_seqs": 12},
    "lengths": {"num_seqs": 12},
    "serving": {"memory_budget": "16MiB", "num_seqs": 12, "scenario": {"rate": 900.0}},
    "serving of a trace": {
        "workload": {"path": TRACE},
        "page_size": 512,
        "num_seqs": 2,
        "memory_budget": "24MiB",
        "model": {"max_seq_len": 4096},
        "scenario": {"arrivals": "trace"},
    },
    "prefix_cache": {"workload": {"path": TRACE}, "page_size": 512, "scenario": {"cache_pages": 20}},
}

MODEL: dict[str, Any] = {
    "num_layers": 2, "num_query_heads": 16, "num_kv_heads": 4, "head_dim": 32, "dtype": "float16",
    "max_seq_len": 512, "num_parameters": 10**9, "kv_dtype": "float8_e4m3fn", "sliding_window": 8, "soft_cap": 2.0,
}  # fmt: skip
ROOT: dict[str, Any] = {"page_size": 32, "num_seqs": 9, "memory_budget": "12MiB", "seed": 1, "page_layout": "aged"}
POLICY: dict[str, Any] = {"watermark": 0.6, "arena": "buddy"}
WORKLOAD: dict[str, Any] = {"most_prompt_tokens": 300, "most_output_tokens": 2, "block_tokens": 256, "repeat": "same",
                            "spread_ticks": "even", "skip_s": 0.5, "skip_requests": 1}  # fmt: skip

CHANGES: list[tuple[str | None, str, Any]] = [
    *((None, name, value) for name, value in ROOT.items()),
    *(("model", name, value) for name, value in MODEL.items()),
    *(("policy", name, value) for name, value in POLICY.items()),
]


def config_of(scenario: str, changes: dict[str, Any]) -> Config:
    return build(composed(scenario, changes).values)


def composed(scenario: str, changes: dict[str, Any]) -> Composed:
    workload = "trace" if "workload" in changes else "lognormal"
    return Composed(f"scenario={scenario.partition(' ')[0]}", f"workload={workload}", "policy=paged", **changes)


def base(scenario: str, group: str | None, field: str, value: Any) -> dict[str, Any]:
    changes = dict(BASE[scenario])
    if group is None:
        return {**changes, field: value}
    return {**changes, group: {**changes.get(group, {}), field: value}}


def row_of(config: Config) -> dict[str, Any]:
    """Return the columns that are equal in every run of a point."""
    module, _, name = config.scenario.processes[0].partition(":")
    answer = getattr(importlib.import_module(module), name)({"config": config.to_json()})
    return {column: value for column, value in answer.values.items() if BY_NAME[column].kind == "exact"}


@cache
def base_row(scenario: str) -> dict[str, Any]:
    return row_of(resolve(config_of(scenario, BASE[scenario]), "cpu"))


TRIED = [(scenario, *change) for scenario in BASE for change in CHANGES]
TRIED += [(scenario, "workload", *change) for scenario in BASE if "workload" in BASE[scenario]
          for change in WORKLOAD.items()]  # fmt: skip


@pytest.mark.parametrize(("scenario", "group", "field", "value"), TRIED, ids=str)
def test_a_field_in_the_key_has_an_effect(scenario: str, group: str | None, field: str, value: Any) -> None:
    plain, changed = config_of(scenario, BASE[scenario]), config_of(scenario, base(scenario, group, field, value))
    resolved = resolve(changed, "cpu")
    if key_of(effective(resolved)) == key_of(effective(resolve(plain, "cpu"))):
        return  # null in the key, or of another kind of policy
    try:
        if row_of(resolved) != base_row(scenario):
            return
    except ValueError:
        return  # the value does not fit the trace, which the plan reports
    points = [composed(scenario, one) for one in (BASE[scenario], base(scenario, group, field, value))]
    found = warnings(plan_of(*points).points, None)
    name = f"{group}.{field}" if group else field
    assert any(f"{name} has no effect" in sentence for sentence in found), found


@pytest.mark.parametrize("scenario", ["capacity", "churn", "serving", "lengths"])
def test_a_window_that_frees_nothing_is_null_and_warned_about(scenario: str) -> None:
    """See hf-mem #60 and vLLM #14097: memory of windowed models is wrong if the window is silently ignored."""
    changes = base(scenario, "model", "sliding_window", 8)
    assert idle_options([config_of(scenario, changes)]) == (
        f"model.sliding_window has no effect on scenario={scenario}: it is null in the key and in the row",
    )
    plan = plan_of(composed(scenario, BASE[scenario]), composed(scenario, changes))
    assert len(plan.points) == 1
    assert plan.merged == 1
    assert "window" not in plan.points[0].config.model.attention


def test_a_window_of_a_decode_step_stays_in_the_key() -> None:
    config = build(Composed("scenario=decode", "impl=paged_torch", model={"sliding_window": 8}).values)
    assert resolve(config, "cpu").model.sliding_window == 8
    assert idle_options([config]) == ()


def test_every_field_is_tried() -> None:
    """A new field must be added to the lists above."""
    assert {f.name for f in dataclasses.fields(ModelSpec)} - {"name"} == set(MODEL)
    assert {f.name for f in dataclasses.fields(PolicyConfig)} - {"name", "target", "kind", "ignores"} == set(POLICY)
    assert {f.name for f in dataclasses.fields(TraceWorkload)} - {"name", "path"} == set(WORKLOAD)
