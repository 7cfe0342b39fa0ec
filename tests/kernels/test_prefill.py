"""Prefill over pages against the float32 reference: whole prompts, chunks, ragged batches, every option."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import pytest

from tests.kernels.attention_case import Case
from tests.kernels.prefill_case import copy_on_write, prefill, refused_queries, swap, swap_too_far

LENS = (1, 37, 70)


def check(kernels: ProcessPoolExecutor, case: Case, num_queries: Sequence[int]) -> None:
    error, allowed = kernels.submit(prefill, case, num_queries).result()
    assert error <= allowed


@pytest.mark.parametrize("num_queries", [LENS, (1, 1, 1), (1, 5, 33)], ids=["whole", "one each", "chunks"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("heads", [(2, 2), (8, 2), (3, 1)], ids=lambda heads: f"{heads[0]}on{heads[1]}")
def test_newest_tokens_of_ragged_sequences(
    kernels: ProcessPoolExecutor, heads: tuple[int, int], dtype: str, num_queries: Sequence[int]
) -> None:
    check(kernels, Case(seq_lens=LENS, page_size=3, heads=heads, dtype=dtype), num_queries)


@pytest.mark.parametrize("page_size", [1, 16, 64, 1024])
def test_any_page_size(kernels: ProcessPoolExecutor, page_size: int) -> None:
    check(kernels, Case(seq_lens=(5, 129), page_size=page_size, dtype="float16"), (5, 60))


@pytest.mark.parametrize("head_dim", [80, 96, 128, 256])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_head_dims(kernels: ProcessPoolExecutor, dtype: str, head_dim: int) -> None:
    check(kernels, Case(seq_lens=(3, 40), page_size=4, head_dim=head_dim, dtype=dtype), (3, 20))


@pytest.mark.parametrize(
    "semantics",
    [
        {"sliding_window": 1},
        {"sliding_window": 20},
        {"soft_cap": 5.0},
        {"kv_dtype": "float8_e4m3fn"},
        {"sliding_window": 9, "soft_cap": 2.0, "kv_dtype": "float8_e4m3fn"},
    ],
    ids=str,
)
@pytest.mark.parametrize("kv_layout", ["NHD", "HND"])
def test_options(kernels: ProcessPoolExecutor, kv_layout: str, semantics: dict[str, Any]) -> None:
    options = {"kv_layout": kv_layout}
    case = Case(seq_lens=(70, 5), page_size=4, heads=(4, 2), dtype="float16", semantics=semantics, options=options)
    check(kernels, case, (40, 5))


@pytest.mark.parametrize(
    ("num_queries", "said"),
    [
        ((1,), "num_queries has 1 entries, but the batch has 2 sequences"),
        ((4, 1), "num_queries=4 must be from 1 to 3, the length of the sequence"),
        ((1, 0), "num_queries=0 must be from 1 to 5, the length of the sequence"),
    ],
)
def test_queries_that_cannot_be(kernels: ProcessPoolExecutor, num_queries: Sequence[int], said: str) -> None:
    assert kernels.submit(refused_queries, num_queries).result() == said


MOVES = [(4, "NHD", "float16", "at_once"), (6, "HND", "float32", "at_once"), (6, "HND", "bfloat16", "each")]


@pytest.mark.parametrize("move", MOVES, ids=str)
def test_a_fork_writes_to_a_copy_of_the_page_that_it_shared(
    kernels: ProcessPoolExecutor, move: tuple[int, str, str, str]
) -> None:
    copied, above = kernels.submit(copy_on_write, *move).result()
    assert copied == 1
    assert max(above) <= 0


@pytest.mark.parametrize("move", MOVES, ids=str)
def test_a_sequence_comes_back_from_the_host_as_it_went(
    kernels: ProcessPoolExecutor, move: tuple[int, str, str, str]
) -> None:
    assert kernels.submit(swap, *move).result()


def test_pages_that_the_host_does_not_have(kernels: ProcessPoolExecutor) -> None:
    said = "page 2 is not one of the 2 pages that the policy has on the host"
    assert kernels.submit(swap_too_far).result() == said
