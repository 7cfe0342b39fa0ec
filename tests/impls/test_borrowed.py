"""Caches around other people's kernels: what is absent or not taken is said, in one sentence."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest
import torch

from impls.interface import Unsupported
from tests.impls.cache_case import DEVICE, CacheCase, Setup, implementations

BY_NAME = {impl["name"]: impl for impl in implementations()}
REQUIRING = [impl for impl in BY_NAME.values() if impl.get("requires")]
ON_CPU = pytest.mark.skipif(DEVICE != "cpu", reason="what a CPU is refused; this machine has a GPU")


def refusal(name: str, **setup: Any) -> str:
    with pytest.raises(Unsupported) as refused:
        CacheCase(Setup(target=BY_NAME[name]["target"], policy="paged", **setup))
    return str(refused.value)


@pytest.mark.parametrize("impl", REQUIRING, ids=lambda impl: impl["name"])
def test_an_absent_package_is_named(impl: dict[str, Any]) -> None:
    (package,) = impl["requires"]
    if importlib.util.find_spec(package) is not None:
        pytest.skip(f"{package} is installed here")
    assert refusal(impl["name"], dtype="float16") == (
        f"{impl['name']} needs the package {package}, which is not installed"
    )


@ON_CPU
def test_a_device_that_is_not_served_is_named() -> None:
    assert refusal("paged_torch_varlen", dtype="float16") == "paged_torch_varlen needs device=cuda, not cpu"


@pytest.mark.parametrize("name", ["paged_flex", "contiguous_flex", "contiguous", "paged_torch"])
@pytest.mark.parametrize(("field", "value"), [("kv_dtype", "float8_e4m3fn"), ("sliding_window", 8), ("soft_cap", 3.0)])
def test_attention_that_is_not_plain_is_refused(name: str, field: str, value: Any) -> None:
    impl = BY_NAME[name]
    with pytest.raises(Unsupported, match=rf"{name} does not do model\.{field}={value}"):
        CacheCase(Setup(target=impl["target"], policy=impl["policies"][0], semantics={field: value}))


def test_what_a_kernel_refuses_is_said_in_its_own_words() -> None:
    setup = Setup(target="impls.paged_flex.PagedFlex", policy="paged", options={"compile": False}, dead=5.0)
    case = CacheCase(setup)
    case.admit(0, 20)
    with pytest.raises(Unsupported, match=r"paged_flex does not take page_size=16 here: .+"):
        case.cache.decode(0, torch.ones(1, 3, 32), case.cache.prepare([0]))  # three query heads for two KV heads


@pytest.mark.parametrize("name", ["paged_flex", "contiguous_flex"])
def test_compile_is_true_or_false(name: str) -> None:
    impl = BY_NAME[name]
    with pytest.raises(ValueError, match=r"impl\.options\.compile=1 must be true or false"):
        CacheCase(Setup(target=impl["target"], policy=impl["policies"][0], options={"compile": 1}))


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.filterwarnings("ignore")  # torch's compiler warns of itself
@pytest.mark.parametrize("name", ["paged_flex", "contiguous_flex"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_compiled_flex_attention(name: str, dtype: str) -> None:
    """The contract's tests run it eagerly: compiling takes a minute per shape."""
    impl = BY_NAME[name]
    torch._dynamo.reset()
    case = CacheCase(
        Setup(
            target=impl["target"],
            policy=impl["policies"][0],
            dtype=dtype,
            heads=(8, 2),
            head_dim=64,
            max_seq_len=8192,
            max_seqs=3,
            dead=5.0,
        )
    )
    for seq_id, num_tokens in enumerate((8192, 1, 1000)):
        case.admit(seq_id, num_tokens)
    case.check(case.cache.prepare(range(3)), range(3))
    assert "compiled" in str(case.cache.details()["kernel_choice"])
