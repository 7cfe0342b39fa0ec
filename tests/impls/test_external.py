"""Caches that call kernels of other projects: a missing package or an unsupported case gives one clear sentence."""

from __future__ import annotations

import importlib.util
import inspect
import sys
import types
from typing import Any

import pytest
import torch
from torch.nn.attention import varlen

from impls.caches.paged_flash_attn import PagedFlashAttn
from impls.caches.paged_flashinfer import PagedFlashInfer
from impls.caches.paged_torch_varlen import PagedTorchVarlen
from impls.external.paged import ExternalPaged
from impls.interface import Unsupported
from tests.support import stand_ins
from tests.support.cache_case import DEVICE, CacheCase, Setup, implementations

BY_NAME = {impl["name"]: impl for impl in implementations()}
REQUIRING = [impl for impl in BY_NAME.values() if impl.get("requires")]
ON_CPU = pytest.mark.skipif(DEVICE != "cpu", reason="tests refusals on a CPU, and this machine has a GPU")


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
def test_an_unsupported_device_is_named() -> None:
    assert refusal("paged_torch_varlen", dtype="float16") == "paged_torch_varlen needs device=cuda (got cpu)"


@pytest.mark.parametrize("name", ["paged_flex", "contiguous_flex", "contiguous", "paged_torch"])
@pytest.mark.parametrize(("field", "value"), [("kv_dtype", "float8_e4m3fn"), ("sliding_window", 8), ("soft_cap", 3.0)])
def test_attention_that_is_not_plain_is_refused(name: str, field: str, value: Any) -> None:
    impl = BY_NAME[name]
    with pytest.raises(Unsupported, match=rf"{name} supports only model\.{field}=null \(got {value}\)"):
        CacheCase(Setup(target=impl["target"], policy=impl["policies"][0], semantics={field: value}))


def test_a_refusal_contains_the_message_of_the_kernel() -> None:
    setup = Setup(target="impls.caches.paged_flex.PagedFlex", policy="paged", options={"compile": False}, dead=5.0)
    case = CacheCase(setup)
    case.admit(0, 20)
    with pytest.raises(Unsupported, match=r"paged_flex does not support page_size=16 here: .+"):
        case.cache.decode(0, torch.ones(1, 3, 32), case.cache.prepare([0]))  # three query heads for two KV heads


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand-ins for the packages of the kernels, so that their caches run here."""
    monkeypatch.setattr(ExternalPaged, "_require", lambda self, model, device: "a stand-in")
    for name in ("flashinfer", "flash_attn"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setattr(
        sys.modules["flashinfer"],
        "BatchDecodeWithPagedKVCacheWrapper",
        stand_ins.BatchDecodeWithPagedKVCacheWrapper,
        raising=False,
    )
    monkeypatch.setattr(
        sys.modules["flash_attn"], "flash_attn_with_kvcache", stand_ins.flash_attn_with_kvcache, raising=False
    )
    monkeypatch.setattr(varlen, "varlen_attn", stand_ins.varlen_attn)


CALLED = [(PagedFlashInfer, 4), (PagedFlashAttn, 256), (PagedTorchVarlen, 256)]  # with a supported page size


@pytest.mark.usefixtures("stand_in")
@pytest.mark.parametrize("heads", [(4, 4), (6, 2), (7, 1)], ids=lambda heads: f"{heads[0]}on{heads[1]}")
@pytest.mark.parametrize(("implementation", "page_size"), CALLED)
def test_a_kernel_gets_the_arguments_that_it_requires(
    implementation: type[ExternalPaged], page_size: int, heads: tuple[int, int]
) -> None:
    target = f"{implementation.__module__}.{implementation.__name__}"
    setup = Setup(target=target, policy="paged", page_size=page_size, heads=heads, dtype="float16", num_layers=2,
                  max_seq_len=600, max_seqs=3)  # fmt: skip
    case = CacheCase(setup)
    for seq_id, num_tokens in enumerate((1, page_size, 2 * page_size + 3)):
        case.admit(seq_id, num_tokens)
    case.check(case.cache.prepare(range(3)), range(3))
    case.free(1)
    others = [2, 0]
    earlier = case.step(others)
    case.cache.prepare([0])  # a plan for another batch must not be used for this one
    case.check(earlier, others)
    case.check(case.step(others), others)


@pytest.mark.usefixtures("stand_in")
def test_pages_that_flash_attention_refuses() -> None:
    assert refusal("paged_flash_attn", dtype="float16").endswith("a page_size that is a multiple of 256 (got 16)")
    case = CacheCase(Setup(target=BY_NAME["paged_torch_varlen"]["target"], policy="paged", dtype="float16"))
    case.admit(0, 20)
    with pytest.raises(Unsupported, match=r"does not support page_size=16 here: .+ must be divisible by 256"):
        case.cache.decode(0, case.query(1), case.cache.prepare([0]))


def test_torch_has_the_arguments_that_are_passed() -> None:
    ours, real = inspect.signature(stand_ins.varlen_attn).parameters, inspect.signature(varlen.varlen_attn).parameters
    assert [name for name in real if name in ours] == list(ours)
    assert all(real[name].kind is ours[name].kind for name in ours)


def test_a_package_that_cannot_be_imported_is_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    """For example because it was built for another torch."""
    monkeypatch.setattr(ExternalPaged, "_require", lambda self, model, device: "a stand-in")
    monkeypatch.setitem(sys.modules, "flashinfer", None)
    assert refusal("paged_flashinfer", dtype="float16").startswith("paged_flashinfer cannot import its package: ")


@pytest.mark.parametrize("name", ["paged_flex", "contiguous_flex", "paged_torch"])
def test_compile_is_true_or_false(name: str) -> None:
    impl = BY_NAME[name]
    with pytest.raises(ValueError, match=r"impl\.options\.compile=1 must be true or false"):
        CacheCase(Setup(target=impl["target"], policy=impl["policies"][0], options={"compile": 1}))


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.filterwarnings("ignore")  # torch's compiler warns about its internals
@pytest.mark.parametrize("name", ["paged_flex", "contiguous_flex"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_compiled_flex_attention(name: str, dtype: str) -> None:
    """The contract tests run it eagerly, because compiling takes a minute per shape."""
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
