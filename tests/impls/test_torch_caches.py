"""Every way in which the two caches in plain torch can compute a batch, forced one by one."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import pytest
import torch

from impls.caches.contiguous import Call
from impls.interface import Unsupported
from impls.launch.tuning import fastest
from tests.support.cache_case import DEVICE, CacheCase, Setup, implementations

CONTIGUOUS = "impls.caches.contiguous.Contiguous"
PAGED = "impls.caches.paged_torch.PagedTorch"
ON_CPU = pytest.mark.skipif(DEVICE != "cpu", reason="only a CPU works in chunks, and this machine has a GPU")


def ragged(target: str, policy: str, **setup: Any) -> CacheCase:
    case = CacheCase(Setup(target=target, policy=policy, max_seq_len=200, **setup))
    for seq_id, num_tokens in enumerate((150, 1, 200, 64)):
        case.admit(seq_id, num_tokens)
    return case


def details_after(case: CacheCase, num_seqs: int = 4) -> Mapping[str, Any]:
    batch = case.cache.prepare(range(num_seqs))
    case.cache.tune(case.query(num_seqs), batch)
    return case.cache.details()


@ON_CPU
@pytest.mark.parametrize("kind", ["padded", "per_sequence", "per_thread"])
@pytest.mark.parametrize("heads", [(4, 2), (4, 4)], ids=["grouped", "single"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_each_call_of_contiguous(
    kind: str, heads: tuple[int, int], dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def choose(calls: Mapping[Call, Callable[[], object]], device: torch.device) -> Call:
        return max((call for call in calls if call.kind == kind), key=lambda call: call.num_rows)

    monkeypatch.setattr("impls.caches.contiguous.fastest", choose)
    case = ragged(CONTIGUOUS, "reserved_max", heads=heads, dtype=dtype)
    case.check(case.cache.prepare(range(4)), range(4))
    details = case.cache.details()
    num_tokens = 4 * 200 if kind == "padded" else 150 + 1 + 200 + 64
    query_and_output = 2 * case.query(4).nbytes
    assert details["sdpa_call"] == kind
    assert details["bytes_read"] == num_tokens * case.setup.model.token_bytes_per_layer + query_and_output


def uncompiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the loop of the compiled kernel without compiling it, because the compiler takes seconds."""
    monkeypatch.setattr("impls.cpu.fused_chunks.torch.compile", lambda function: function)


@ON_CPU
@pytest.mark.parametrize("page_size", [1, 16])
@pytest.mark.parametrize("heads", [(6, 2), (4, 4)], ids=["grouped", "single"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_compiled_loop_is_attention(
    page_size: int, heads: tuple[int, int], dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    uncompiled(monkeypatch)
    case = ragged(PAGED, "paged", page_size=page_size, heads=heads, dtype=dtype, options={"compile": True})
    case.check(case.cache.prepare(range(4)), range(4))
    details = case.cache.details()
    assert details["kernel_choice"] == f"torch {torch.__version__}, compiled"
    assert details["sdpa_backend"] is None
    case.check(case.cache.prepare([1]), [1])  # a single chunk, of one token


@ON_CPU
def test_compiling_is_tried_by_large_steps_only(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_compiler(function: Callable[..., object]) -> Callable[..., object]:
        raise RuntimeError("no C++ compiler")

    monkeypatch.setattr("impls.cpu.fused_chunks.torch.compile", no_compiler)
    tried: list[Sequence[Hashable]] = []

    def choose(calls: Mapping[Hashable, Callable[[], object]], device: torch.device) -> Hashable:
        tried.append(list(calls))
        return fastest(calls, device)

    monkeypatch.setattr("impls.caches.paged_torch.fastest", choose)
    case = ragged(PAGED, "paged")
    assert details_after(case)["sdpa_backend"] == "flash"
    read_bytes = (150 + 1 + 200 + 64) * case.setup.model.token_bytes_per_layer
    for least_bytes in (read_bytes + 1, read_bytes):
        monkeypatch.setattr("impls.caches.paged_torch.FUSED_MIN_BYTES", least_bytes)
        assert details_after(ragged(PAGED, "paged"))["sdpa_backend"] == "flash"  # the other choices still work
    monkeypatch.setattr("impls.caches.paged_torch.FUSED_MIN_BYTES", 1)
    details_after(ragged(PAGED, "paged", options={"compile": False}))
    details_after(ragged(PAGED, "paged", options={"chunk_tokens": 64}))
    assert [sum("compiled" in choice for choice in choices) for choices in tried] == [0, 0, 1, 0, 0]  # type: ignore[operator]
    with pytest.raises(Unsupported, match=r"no C\+\+ compiler"):
        details_after(ragged(PAGED, "paged", options={"compile": True}))


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.filterwarnings("ignore")  # torch's compiler warns about its internals
@pytest.mark.parametrize("heads", [(8, 2), (8, 8)], ids=["grouped", "single"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_compiled_loop_is_compiled_once_for_any_lengths(heads: tuple[int, int], dtype: str) -> None:
    torch._dynamo.reset()
    setup = Setup(target=PAGED, policy="paged", page_size=4, heads=heads, head_dim=64, dtype=dtype, max_seq_len=1000,
                  num_layers=2, options={"compile": True})  # fmt: skip
    case = CacheCase(setup)
    for seq_id, num_tokens in enumerate((900, 64, 300)):
        case.admit(seq_id, num_tokens)
    case.check(case.cache.prepare(range(3)), range(3))
    with torch.compiler.set_stance("fail_on_recompile"):
        case.append(1, 90)
        for seq_ids in ([2, 0], [0, 1, 2]):
            case.check(case.step(seq_ids), seq_ids)


def test_contiguous_pads_only_adjacent_regions_of_equal_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("impls.caches.contiguous.fastest", lambda calls, device: list(calls)[-1])
    case = ragged(CONTIGUOUS, "reserved_max")
    assert details_after(case)["sdpa_call"] == "padded"
    backwards = [3, 2, 1, 0]
    batch = case.cache.prepare(backwards)
    case.check(batch, backwards)
    assert case.cache.details()["sdpa_call"] != "padded"


def test_contiguous_does_not_pad_beyond_a_short_last_region(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("impls.caches.contiguous.fastest", lambda calls, device: list(calls)[-1])
    for last, is_padded in ((60, True), (40, False)):
        case = CacheCase(Setup(target=CONTIGUOUS, policy="reserved_oracle"))
        for seq_id, final_len in enumerate((60, 60, last)):
            case.admit(seq_id, 30 + seq_id, final_len)
        case.check(case.cache.prepare(range(3)), range(3))
        assert (case.cache.details()["sdpa_call"] == "padded") == is_padded


@ON_CPU
@pytest.mark.parametrize("options", [{"chunk_tokens": 1}, {"chunk_tokens": 7, "gather_bytes": 1}, {"chunk_tokens": 64}])
@pytest.mark.parametrize("page_size", [1, 5, 64])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_chunks_of_any_size_merge_to_the_whole(options: Mapping[str, int], page_size: int, dtype: str) -> None:
    case = ragged(PAGED, "paged", page_size=page_size, options=options, dtype=dtype)
    case.check(case.cache.prepare(range(4)), range(4))
    assert case.cache.details()["chunk_tokens"] == options["chunk_tokens"]


@ON_CPU
@pytest.mark.parametrize("page_size", [1, 16])
def test_whole_sequences_at_once_as_on_a_gpu(page_size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("impls.caches.paged_torch.CHUNK_TOKENS", (None,))
    case = ragged(PAGED, "paged", page_size=page_size)
    for seq_ids in ([0, 1, 2, 3], [2, 0], [1]):
        case.check(case.cache.prepare(seq_ids), seq_ids)
    assert case.cache.details()["chunk_tokens"] is None


@ON_CPU
def test_adjacent_pages_are_read_in_place() -> None:
    for page_size, in_place_ratio in ((16, 0.0), (64, 1.0)):
        case = CacheCase(
            Setup(target=PAGED, policy="paged", page_size=page_size, max_seq_len=128, options={"chunk_tokens": 64})
        )
        for seq_id in range(4):
            case.admit(seq_id, 128)
        case.check(case.cache.prepare(range(4)), range(4))
        assert case.cache.details()["in_place_ratio"] == in_place_ratio


@pytest.mark.parametrize(("name", "value"), [("chunk_tokens", 0), ("gather_bytes", -1), ("chunk_tokens", 1.5)])
def test_an_option_out_of_range_is_named(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"impl\.options\.{name}={value} must be an integer of at least 1"):
        CacheCase(Setup(target=PAGED, policy="paged", options={name: value}))


@pytest.mark.parametrize(("target", "policy"), [(CONTIGUOUS, "paged"), (PAGED, "reserved_max")])
def test_a_policy_of_the_wrong_kind_is_unsupported(target: str, policy: str) -> None:
    with pytest.raises(Unsupported, match="requires"):
        CacheCase(Setup(target=target, policy=policy))


def test_the_registry_points_at_these_classes() -> None:
    assert {CONTIGUOUS, PAGED} <= {impl["target"] for impl in implementations()}


@ON_CPU
def test_several_threads_share_the_work_and_leave_the_setting_alone() -> None:
    torch.set_num_threads(3)
    case = ragged(PAGED, "paged", options={"chunk_tokens": 8, "gather_bytes": 1})
    for _ in range(3):
        case.check(case.cache.prepare(range(4)), range(4))
    assert torch.get_num_threads() == 3


def test_fastest_takes_the_least_time_and_leaves_out_what_fails() -> None:
    device = torch.device("cpu")
    large, small = torch.ones(400, 400), torch.ones(1)

    def fail() -> None:
        raise RuntimeError("no kernel here\nand why")

    calls: dict[Hashable, Callable[[], object]] = {"slow": lambda: large @ large, "fast": lambda: small + 1}
    assert fastest({**calls, "broken": fail}, device) == "fast"
    with pytest.raises(Unsupported, match="broken: no kernel here"):
        fastest({"broken": fail}, device)
