"""The layers of every real cache are copies to rotate among: its calls follow, and hold the same answer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from bench.config import build
from bench.measure.timers.work import RotationDefeated, check_rotation
from bench.plan.points import resolve
from bench.scenarios.filling import draw, fill
from bench.scenarios.tensors.decode_timing import DecodeStep, seen_layer_bytes
from bench.scenarios.tensors.filled import draw_inputs, make_cache, write_sequence
from bench.scenarios.tensors.output_check import Audit
from tests.support.points import values

COPIES = 3


def step_of(impl: str) -> DecodeStep:
    config = resolve(build(values(f"impl={impl}", num_seqs=3, page_size=4, device="cpu",
                                  model={"max_seq_len": 64, "name": "tiny"})), "cpu")  # fmt: skip
    config = replace(config, workload=replace(config.workload, low=10, high=40))  # type: ignore[call-arg]
    filled = fill(config, *draw(config))
    cache = make_cache(config, filled.policy, num_layers=COPIES)
    inputs = draw_inputs(config, filled)
    for seq_id, (keys, vals) in enumerate(zip(inputs.keys, inputs.values, strict=True)):
        write_sequence(cache, seq_id, keys, vals)
    batch = cache.prepare(range(len(filled.seq_lens)))
    cache.tune(inputs.query, batch)
    return DecodeStep(
        config=config,
        filled=filled,
        cache=cache,
        query=inputs.query,
        newest=inputs.newest(),
        batch=batch,
        audit=Audit(queries=[], variants=[]),  # nothing is timed here
    )


@pytest.fixture(scope="module", params=["contiguous", "paged_torch"])
def step(request: pytest.FixtureRequest) -> DecodeStep:
    return step_of(request.param)


def test_decode_and_append_follow_the_rotation(step: DecodeStep) -> None:
    before = step.cache.decode(0, step.query, step.batch).clone()
    check_rotation(step.decode(COPIES))
    check_rotation(step.append(COPIES))
    for layer in range(COPIES):
        assert torch.equal(step.cache.decode(layer, step.query, step.batch), before), "every copy is whole again"


def test_a_cache_that_ignores_its_layer_is_refused(step: DecodeStep, monkeypatch: pytest.MonkeyPatch) -> None:
    decode, write = step.cache.decode, step.cache.write
    monkeypatch.setattr(step.cache, "decode", lambda layer, *rest: decode(0, *rest))
    monkeypatch.setattr(step.cache, "write", lambda layer, *rest: write(0, *rest))
    for work in (step.decode(COPIES), step.append(COPIES)):
        with pytest.raises(RotationDefeated, match=r"call\(1\)"):
            check_rotation(work)


def test_the_predicted_bytes_are_those_of_the_live_tokens(step: DecodeStep) -> None:
    tokens = int(step.filled.seq_lens.sum())
    assert seen_layer_bytes(step.config, step.filled) == tokens * step.config.model.token_bytes_per_layer


def test_a_work_names_one_pair_of_tensors_per_copy(step: DecodeStep) -> None:
    pointers: set[Any] = {tensor.data_ptr() for copy in step.decode(COPIES).copies for tensor in copy}
    assert len(pointers) == 2 * COPIES
