"""The cache around the kernels: writing, appending, facts for the row, and what it refuses."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from tests.kernels.attention_case import Case
from tests.kernels.cache_case import (
    append_and_decode,
    attend_beyond_31_bits,
    facts_after_tune,
    quantised,
    refusal,
    write_with_skips,
)

SMALL = Case(seq_lens=(8,))


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("page_size", [1, 3, 16])
def test_write_stores_each_token_in_its_slot_and_skips_minus_one(
    kernels: ProcessPoolExecutor, page_size: int, dtype: str
) -> None:
    case = Case(seq_lens=(8,), page_size=page_size, heads=(3, 3), head_dim=80, dtype=dtype)
    assert kernels.submit(write_with_skips, case).result()


@pytest.mark.parametrize("case", [Case(seq_lens=(8,), paged=False), Case(seq_lens=(8,), options={"kv_layout": "HND"})])
def test_write_without_pages_and_with_heads_before_tokens(kernels: ProcessPoolExecutor, case: Case) -> None:
    assert kernels.submit(write_with_skips, case).result()


def test_write_of_a_token_longer_than_one_program_takes(kernels: ProcessPoolExecutor) -> None:
    assert kernels.submit(write_with_skips, Case(seq_lens=(8,), heads=(20, 20), head_dim=64)).result()


@pytest.mark.parametrize("heads", [(2, 2), (4, 1)])
def test_tokens_appended_one_by_one_are_seen_by_the_next_step(
    kernels: ProcessPoolExecutor, heads: tuple[int, int]
) -> None:
    case = Case(seq_lens=(2, 7), page_size=4, heads=heads)
    for error, allowed in kernels.submit(append_and_decode, case, 3).result():
        assert error <= allowed


FP8 = {"kv_dtype": "float8_e4m3fn"}


@pytest.mark.parametrize("paged", [True, False], ids=["pages", "regions"])
@pytest.mark.parametrize("heads", [(2, 2), (8, 2)])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_quantised_cache_is_read_as_it_was_rounded(
    kernels: ProcessPoolExecutor, dtype: str, heads: tuple[int, int], paged: bool
) -> None:
    case = Case(seq_lens=(1, 40), page_size=3, heads=heads, dtype=dtype, semantics=FP8, paged=paged)
    error, allowed, is_rounded_as_torch_does, scales_bytes = kernels.submit(quantised, case, 0.01).result()
    assert is_rounded_as_torch_does
    assert error <= allowed
    assert scales_bytes == 2 * 2 * 4


@pytest.mark.parametrize("head_dim", [16, 33, 80, 96, 128, 256])
def test_quantised_cache_of_any_head_dim(kernels: ProcessPoolExecutor, head_dim: int) -> None:
    case = Case(seq_lens=(3, 37), page_size=4, head_dim=head_dim, dtype="float16", semantics=FP8)
    error, allowed, *_ = kernels.submit(quantised, case, 0.01).result()
    assert error <= allowed


@pytest.mark.parametrize("semantics", [{}, {"sliding_window": 19, "soft_cap": 2.0}], ids=str)
@pytest.mark.parametrize("page_size", [1, 64])
@pytest.mark.parametrize("kv_layout", ["NHD", "HND"])
def test_quantised_cache_of_any_layout(
    kernels: ProcessPoolExecutor, kv_layout: str, page_size: int, semantics: dict[str, float]
) -> None:
    options = {"kv_layout": kv_layout, "num_splits": 2, "block_tokens": 16}
    case = Case(seq_lens=(1, 70), page_size=page_size, heads=(6, 3), dtype="bfloat16", options=options)
    error, allowed, *_ = kernels.submit(quantised, replace(case, semantics=FP8 | semantics), 0.01).result()
    assert error <= allowed


@pytest.mark.parametrize(("capability", "answer"), [(80, "8.0"), (86, "8.6"), (89, None), (90, None)])
def test_a_quantised_cache_needs_a_device_that_converts(
    compiler: ProcessPoolExecutor, capability: int, answer: str | None
) -> None:
    case = Case(seq_lens=(8,), dtype="float16", semantics=FP8)
    said = compiler.submit(refusal, case, capability=capability).result()
    reason = f"paged_triton stores float8_e4m3fn from compute capability 8.9 on; this is {answer}"
    assert said == ("made" if answer is None else f"Unsupported: {reason}")


def test_offsets_beyond_31_bits(kernels: ProcessPoolExecutor) -> None:
    above, first_element = kernels.submit(attend_beyond_31_bits).result()
    assert first_element > 2**31
    assert max(above) <= 0


def test_facts_for_the_row(kernels: ProcessPoolExecutor) -> None:
    case = Case(seq_lens=(3, 9), page_size=4, heads=(4, 1), options={"num_splits": 2, "block_tokens": 16})
    facts = kernels.submit(facts_after_tune, case).result()
    token_bytes = 2 * 1 * 64 * 4
    page_table_bytes = 2 * 3 * 4
    assert facts["bytes_read"] == 12 * token_bytes + 2 * (2 * 4 * 64 * 4) + page_table_bytes
    assert facts["sdpa_backend"] is None
    assert (facts["num_splits"], facts["block_tokens"]) == (1, 16)
    assert facts["shapes"] == [(facts["pages"], 4, 1, 64)] * 2
    assert facts["storage_bytes"] == facts["pages"] * 4 * token_bytes


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        (Case(seq_lens=(8,), head_dim=8), "paged_triton takes a head_dim of 16 to 256, not 8"),
        (Case(seq_lens=(8,), head_dim=320), "paged_triton takes a head_dim of 16 to 256, not 320"),
    ],
)
def test_unsupported_shapes(kernels: ProcessPoolExecutor, case: Case, reason: str) -> None:
    assert kernels.submit(refusal, case).result().startswith(f"Unsupported: {reason}")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (
            {"splits": 2},
            (
                "splits is not known. Allowed: "
                "block_tokens, num_warps, num_stages, num_splits, merge, kv_layout, page_moves"
            ),
        ),
        ({"block_tokens": 48}, "block_tokens=48 must be a power of two"),
        ({"block_tokens": 8}, "block_tokens=8 must be from 16 to 256"),
        ({"num_warps": 3}, "num_warps=3 must be a power of two"),
        ({"num_splits": 0}, "num_splits=0 must be an integer of at least 1"),
        ({"kv_layout": "NDH"}, "kv_layout=NDH must be one of NHD, HND"),
        ({"num_stages": 9}, "num_stages=9 must be from 1 to 8"),
        ({"merge": "never"}, "merge=never must be one of after, overlap"),
    ],
)
def test_bad_options(kernels: ProcessPoolExecutor, options: dict[str, int], reason: str) -> None:
    answer = kernels.submit(refusal, Case(seq_lens=(8,), options=options)).result()
    assert answer == f"ValueError: impl.options.{reason}"


@pytest.mark.parametrize(("capability", "is_made"), [(80, False), (90, True)])
def test_overlapping_kernels_need_a_device_that_can(
    compiler: ProcessPoolExecutor, capability: int, is_made: bool
) -> None:
    case = Case(seq_lens=(8,), dtype="float16", options={"merge": "overlap"})
    answer = compiler.submit(refusal, case, capability=capability).result()
    reason = "Unsupported: impl.options.merge=overlap needs a CUDA device of compute capability 9.0"
    assert answer == ("made" if is_made else reason)


def test_refuses_a_policy_without_pages(kernels: ProcessPoolExecutor) -> None:
    answer = kernels.submit(refusal, SMALL, policy_name="reserved_max").result()
    assert answer == "Unsupported: paged_triton requires policy=paged or policy=prefix (got a reserved policy)"


def test_refuses_a_cpu_without_the_interpreter(compiler: ProcessPoolExecutor) -> None:
    answer = compiler.submit(refusal, SMALL, device="cpu").result()
    assert answer.startswith(
        "Unsupported: paged_triton needs a CUDA device; on cpu it runs only in Triton's interpreter"
    )


def test_refuses_where_triton_is_not_installed(compiler: ProcessPoolExecutor) -> None:
    answer = compiler.submit(refusal, SMALL, without_triton=True).result()
    assert answer == "Unsupported: paged_triton needs the package triton, which is not installed"


@pytest.mark.parametrize(
    ("module", "blocked"),
    [("impls.caches.paged_triton", ("triton",)), ("impls.kernels.heuristics", ("triton", "torch", "numpy"))],
)
def test_imports_without(root: Path, module: str, blocked: tuple[str, ...]) -> None:
    code = f"import sys; sys.modules.update(dict.fromkeys({blocked!r})); import {module}"
    subprocess.run([sys.executable, "-c", code], cwd=root, check=True, timeout=120)
