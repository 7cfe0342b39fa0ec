"""The configuration: bad input gives one sentence that names the field and the value."""

from __future__ import annotations

from typing import Any

import pytest

from bench.config import build, known_keys
from bench.config.units import parse_bytes
from tests.support.points import values


def test_a_composed_point_becomes_a_config_and_back() -> None:
    config = build(values())
    assert build(config.to_json()) == config


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"page_size": 0}, "page_size=0 must be between 1 and 4096"),
        ({"page_size": 4097}, "page_size=4097 must be between 1 and 4096"),
        ({"page_size": "big"}, "page_size=big must be a whole number"),
        ({"page_size": True}, "page_size=True must be a whole number"),
        ({"page_size": None}, "page_size=null is not allowed"),
        ({"num_seqs": 0}, "num_seqs=0 must be at least 1"),
        ({"memory_budget": "4Gigs"}, "memory_budget=4Gigs is not a size"),
        ({"page_layout": "shufled"}, "page_layout=shufled is not known \\(did you mean shuffled\\?\\)"),
        ({"pagesize": 4}, "pagesize is not a configuration key. Did you mean page_size\\?"),
        ({"workload": {"name": "fixed", "length": 0}}, "workload.length=0 must be at least 1"),
        ({"workload": {"name": "fixed", "low": 3}}, "workload.low is not a configuration key"),
        ({"workload": {"name": "fixd"}}, "workload.name=fixd is not known \\(did you mean fixed\\?\\)"),
        ({"workload": {"name": "uniform", "low": 9, "high": 8}}, "workload.high=8 must be at least 9"),
        ({"workload": {"name": "trace"}}, "workload.path is empty"),
        ({"replicates": 0}, "replicates=0 must be at least 1"),
        ({"timeout_s": 0}, "timeout_s=0.0 must be above 0"),
        ({"device": "tpu"}, "device=tpu is not known .*. Choose one of auto, cpu, cuda"),
        ({"model": {"num_kv_heads": 3}}, "model.num_query_heads=8 must be a multiple of model.num_kv_heads=3"),
        ({"model": {"dtype": "int4"}}, "model.dtype='int4' must be one of float32"),
        ({"scenario": {"layers_allocated": 3}}, "scenario.layers_allocated=3 must be at most model.num_layers=2"),
        ({"measure": {"rel_half_width": 1}}, "measure.rel_half_width=1.0 must be above 0 and below 1"),
        ({"policy": {"watermark": 1.5}}, "policy.watermark=1.5 must be at least 0 and below 1"),
        ({"policy": {"target": "m.Mine", "kind": "paged"}}, "policy.target=m.Mine requires a name of its own"),
        ({"policy": {"name": "mine", "target": "m.Mine", "kind": "page"}}, "policy.kind=page is not known"),
        ({"impl": {"target": "nodots"}}, "impl.target=nodots must be package.module.Class"),
    ],
)
def test_a_wrong_value_is_one_sentence(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence) as caught:
        build(values(**change))
    assert "\n" not in str(caught.value)


def test_every_key_of_the_composed_config_is_known() -> None:
    composed = values()
    dotted = set(composed) | {f"{g}.{k}" for g, v in composed.items() if isinstance(v, dict) for k in v}
    assert dotted <= set(known_keys())


@pytest.mark.parametrize(
    ("text", "size"), [("4GiB", 4 * 2**30), ("1.5 KiB", 1536), ("7", 7), ("2MB", 2_000_000), (123, 123)]
)
def test_sizes_are_read_in_every_unit(text: str | int, size: int) -> None:
    assert parse_bytes(text, "memory_budget") == size


@pytest.mark.parametrize("text", ["", "GiB", "-1GiB", "0", "4 gib", "1e9"])
def test_wrong_sizes_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="memory_budget="):
        parse_bytes(text, "memory_budget")
