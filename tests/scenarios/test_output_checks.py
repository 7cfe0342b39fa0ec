"""Implementations that are wrong, before timing or while they are timed, are never ``ok``."""

from __future__ import annotations

import random
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from bench.config import build
from bench.plan.question import resolve
from bench.rows.result import Answer
from bench.scenarios.tensors import decode, prefill
from impls.caches.paged_torch import PagedTorch
from tests.support.points import Composed

SMALL: dict[str, Any] = {"num_seqs": 2, "workload": {"low": 20, "high": 40},
                         "model": {"num_query_heads": 4, "num_kv_heads": 2,
                         "head_dim": 16}, "measure": {"warmup_ms": 1.0, "max_s": 0.2, "min_samples": 5}}  # fmt: skip


class Wrong(PagedTorch):
    """Right, until a test makes it wrong. ``calls`` counts the calls of all instances."""

    calls: ClassVar[int] = 0
    remembered: ClassVar[Tensor | None] = None

    def decode(self, layer: int, query: Tensor, batch: Any) -> Any:
        Wrong.calls += 1
        return type(self).spoil(super().decode(layer, query, batch), query)

    def prefill(self, layer: int, query: Tensor, batch: Any) -> Any:
        Wrong.calls += 1
        return type(self).spoil(super().prefill(layer, query, batch), query)

    @classmethod
    def spoil(cls, out: Tensor, query: Tensor) -> Any:
        return out


def time_point(name: str, scenario: str = "decode", **changes: Any) -> Answer:
    Wrong.calls, Wrong.remembered = 0, None
    config = build(Composed(f"scenario={scenario}", "impl=paged_torch", "policy=paged", **{**SMALL, **changes}).values)
    plain = resolve(config, "cpu").to_json()
    plain["impl"]["target"] = f"{__name__}.{name}"
    call = decode.time_point if scenario == "decode" else prefill.time_point
    return call({"config": plain, "ceiling_gbps": 10.0})


class Array(Wrong):
    @classmethod
    def spoil(cls, out: Tensor, query: Tensor) -> Any:
        return out.numpy()


class Double(Wrong):
    @classmethod
    def spoil(cls, out: Tensor, query: Tensor) -> Any:
        return out.double()


class Flat(Wrong):
    @classmethod
    def spoil(cls, out: Tensor, query: Tensor) -> Any:
        return out.flatten(1)


class NoNumber(Wrong):
    @classmethod
    def spoil(cls, out: Tensor, query: Tensor) -> Any:
        out[0, 0, :3] = float("nan")
        out[0, 1, 0] = float("inf")
        return out


class Nothing(Wrong):
    @classmethod
    def spoil(cls, out: Tensor, query: Tensor) -> Any:
        return None


@pytest.mark.parametrize("scenario", ["decode", "prefill"])
@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("Array", "the output is a numpy.ndarray, and must be a torch.Tensor"),
        ("Nothing", "the output is a builtins.NoneType"),
        ("Double", "the output has dtype torch.float64, and must have torch.float32, like the query"),
        ("Flat", ", 64), and must have ("),
        ("NoNumber", "the output has 3 NaN and 1 infinite values among"),
    ],
)
def test_a_bad_output_is_incorrect_with_what_is_wrong(scenario: str, name: str, sentence: str) -> None:
    answer = time_point(name, scenario)
    assert answer.status == "incorrect"
    assert sentence in str(answer.status_reason)
    assert answer.values["pool_bytes"] > 0, "the counters are kept"
    assert "decode_us" not in answer.values


class ZeroAfterFive(Wrong):
    @classmethod
    def spoil(cls, out: Tensor, query: Tensor) -> Any:
        return out if cls.calls <= 5 else torch.zeros_like(out)


class WrongFromARandomCall(Wrong):
    @classmethod
    def spoil(cls, out: Tensor, query: Tensor) -> Any:
        return out if Wrong.calls < START else out.roll(1, 0)


START = 0


class Remembered(Wrong):
    """Returns its first result for ever."""

    @classmethod
    def spoil(cls, out: Tensor, query: Tensor) -> Any:
        Wrong.remembered = out if Wrong.remembered is None else Wrong.remembered
        return Wrong.remembered


class RememberedByAddress(Wrong):
    """Computes again only if the query is another tensor."""

    by_address: ClassVar[dict[int, Tensor]] = {}

    @classmethod
    def spoil(cls, out: Tensor, query: Tensor) -> Any:
        return cls.by_address.setdefault(query.data_ptr(), out)


@pytest.mark.parametrize("scenario", ["decode", "prefill"])
@pytest.mark.parametrize("name", ["ZeroAfterFive", "Remembered", "RememberedByAddress"])
def test_an_output_that_is_wrong_only_when_timed_is_incorrect(scenario: str, name: str) -> None:
    RememberedByAddress.by_address = {}
    answer = time_point(name, scenario)
    assert answer.status == "incorrect"
    assert "right before timing, but wrong in a timed call: max_rel_error=" in str(answer.status_reason)


@pytest.mark.parametrize("seed", range(4))
def test_an_implementation_that_goes_wrong_at_a_random_call_is_incorrect(seed: int) -> None:
    global START
    START = random.Random(seed).randint(4, 300)  # the check before timing has one call
    answer = time_point("WrongFromARandomCall")
    assert Wrong.calls > START
    assert answer.status == "incorrect"


@pytest.mark.parametrize("scenario", ["decode", "prefill"])
def test_a_right_implementation_stays_ok(scenario: str) -> None:
    answer = time_point("Wrong", scenario)
    assert (answer.status, answer.status_reason) == ("ok", None)


class IgnoresGroups(Wrong):
    """Uses the KV head of the query head's own number, modulo the number of KV heads."""

    @classmethod
    def spoil(cls, out: Tensor, query: Tensor) -> Any:
        return out if query.shape[1] == cls.kv_heads else out.roll(1, 1)

    kv_heads: ClassVar[int] = 0

    def __init__(self, model: Any, *args: Any, **options: Any) -> None:
        super().__init__(model, *args, **options)
        IgnoresGroups.kv_heads = model.num_kv_heads


@pytest.mark.parametrize("scenario", ["decode", "prefill"])
def test_a_wrong_group_is_found_with_a_model_that_has_none(scenario: str) -> None:
    answer = time_point("IgnoresGroups", scenario, model={"num_query_heads": 4, "num_kv_heads": 4, "head_dim": 16})
    assert answer.status == "incorrect"
    assert "with 4/2 x 16, which is checked as well: max_rel_error=" in str(answer.status_reason)
