"""The decode kernels against the float32 reference: shapes, dtypes, pages, splits."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace

import pytest

from tests.kernels.attention_case import MUTATIONS, Case, Outcome, attend

PAGE_SIZES = (1, 3, 4, 16, 64, 1024)
DTYPES = ("float32", "float16", "bfloat16")
ONE_TO_ONE, GROUPED = (2, 2), (4, 1)  # query heads, KV heads
LONG = Case(seq_lens=(70, 600), page_size=16)


def check(kernels: ProcessPoolExecutor, case: Case) -> Outcome:
    outcome = kernels.submit(attend, case).result()
    assert outcome.error <= outcome.allowed
    return outcome


@pytest.mark.parametrize("heads", [ONE_TO_ONE, GROUPED])
@pytest.mark.parametrize("page_size", PAGE_SIZES)
def test_any_page_size_at_its_edges(kernels: ProcessPoolExecutor, page_size: int, heads: tuple[int, int]) -> None:
    check(kernels, Case(seq_lens=(1, page_size, page_size + 1, 37), page_size=page_size, heads=heads))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("heads", [(8, 8), (32, 8), (8, 1)])
def test_query_heads_share_kv_heads(kernels: ProcessPoolExecutor, heads: tuple[int, int], dtype: str) -> None:
    check(kernels, Case(seq_lens=(17, 40), heads=heads, dtype=dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("heads", [ONE_TO_ONE, GROUPED])
@pytest.mark.parametrize("head_dim", [16, 80, 96, 128, 256])
def test_head_dims(kernels: ProcessPoolExecutor, head_dim: int, heads: tuple[int, int], dtype: str) -> None:
    check(kernels, Case(seq_lens=(3, 37), page_size=4, head_dim=head_dim, heads=heads, dtype=dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("heads", [ONE_TO_ONE, GROUPED])
def test_regions_without_a_page_table(kernels: ProcessPoolExecutor, heads: tuple[int, int], dtype: str) -> None:
    case = Case(seq_lens=(1, 37, 130), paged=False, heads=heads, head_dim=80, dtype=dtype)
    check(kernels, case)
    split = check(kernels, replace(case, options={"num_splits": 4, "block_tokens": 16}))
    assert split.num_splits > 2


@pytest.mark.parametrize("heads", [(6, 3), (8, 2)])
@pytest.mark.parametrize("page_size", [1, 3, 64])
def test_pages_with_heads_before_tokens(kernels: ProcessPoolExecutor, page_size: int, heads: tuple[int, int]) -> None:
    check(kernels, Case(seq_lens=(1, 70, 37), page_size=page_size, heads=heads, options={"kv_layout": "HND"}))


@pytest.mark.parametrize("paged", [True, False], ids=["pages", "regions"])
@pytest.mark.parametrize("heads", [ONE_TO_ONE, GROUPED])
@pytest.mark.parametrize("window", [1, 5, 16, 40, 1000])
def test_sliding_window(kernels: ProcessPoolExecutor, window: int, heads: tuple[int, int], paged: bool) -> None:
    case = Case(seq_lens=(1, 129, 40), page_size=3, heads=heads, paged=paged, semantics={"sliding_window": window})
    check(kernels, case)
    check(kernels, replace(case, options={"num_splits": 3, "block_tokens": 16}))


def test_a_window_leaves_the_pages_before_it_unread(kernels: ProcessPoolExecutor) -> None:
    """Splits are of the tokens in the window: one tile of sixteen holds a window of sixteen."""
    case = Case(seq_lens=(160,), page_size=16, semantics={"sliding_window": 16})
    assert check(kernels, replace(case, options={"num_splits": 9, "block_tokens": 16})).num_splits == 1


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("heads", [ONE_TO_ONE, GROUPED])
@pytest.mark.parametrize("soft_cap", [0.5, 30.0])
def test_soft_cap(kernels: ProcessPoolExecutor, soft_cap: float, heads: tuple[int, int], dtype: str) -> None:
    check(kernels, Case(seq_lens=(3, 50), heads=heads, dtype=dtype, semantics={"soft_cap": soft_cap}))


@pytest.mark.parametrize("group_size", [16, 20, 32])
def test_groups_that_fill_and_exceed_the_least_tile(kernels: ProcessPoolExecutor, group_size: int) -> None:
    check(kernels, Case(seq_lens=(5, 20), heads=(group_size, 1), dtype="float16"))


@pytest.mark.parametrize("heads", [ONE_TO_ONE, GROUPED])
@pytest.mark.parametrize(("num_splits", "expected"), [(1, 1), (2, 2), (5, 5), (100, 13)])
def test_splits_of_ragged_lengths(
    kernels: ProcessPoolExecutor, heads: tuple[int, int], num_splits: int, expected: int
) -> None:
    options = {"num_splits": num_splits, "block_tokens": 16}
    outcome = check(kernels, Case(seq_lens=(1, 200, 16, 65), page_size=3, heads=heads, options=options))
    assert outcome.num_splits == expected


def test_more_parts_than_the_merge_kernel_reads_at_once(kernels: ProcessPoolExecutor) -> None:
    options = {"num_splits": 100, "block_tokens": 16}
    outcome = check(kernels, Case(seq_lens=(40, 1100), heads=(1, 1), options=options))
    assert outcome.num_splits > 64


@pytest.mark.parametrize("page_size", [16, 64, 100])
def test_tile_longer_shorter_and_no_divisor_of_the_page(kernels: ProcessPoolExecutor, page_size: int) -> None:
    for block_tokens in (16, 64, 128):
        check(kernels, Case(seq_lens=(33, 129), page_size=page_size, options={"block_tokens": block_tokens}))


def test_longest_sequence_passes_the_check(kernels: ProcessPoolExecutor) -> None:
    check(kernels, LONG)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mutation", MUTATIONS)
def test_check_sees_a_small_fault_in_a_long_sequence(kernels: ProcessPoolExecutor, mutation: str, dtype: str) -> None:
    outcome = kernels.submit(attend, replace(LONG, mutation=mutation, dtype=dtype)).result()
    assert outcome.allowed < outcome.error


@pytest.mark.parametrize("page_size", [1600, 2176])
def test_pages_of_hybrid_models(kernels: ProcessPoolExecutor, page_size: int) -> None:
    """Hybrid models make the pages of attention as large as their other state (vllm-ascend issue #16639)."""
    lens = (page_size - 1, page_size, page_size + 1)
    check(kernels, Case(seq_lens=lens, page_size=page_size, heads=(4, 1), dtype="float16"))
