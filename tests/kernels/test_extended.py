"""What ``ExtendedKVCache`` adds, against the float32 reference: sinks, ALiBi, log-sum-exp, trees, padding rows."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from tests.kernels.attention_case import Case, attend, attend_with_lse, attend_with_padding
from tests.kernels.prefill_case import (
    cascade,
    prefill,
    prefill_padding,
    prefill_tree,
    refused_cascades,
    refused_extras,
    refused_trees,
)

ONE_TO_ONE, GROUPED = (2, 2), (4, 1)  # query heads, KV heads
LENS = (1, 200, 40)
WHOLE = {"num_splits": 1}
SPLIT = {"num_splits": 4, "block_tokens": 16}
SINKS, SLOPES, BOTH = ("sinks",), ("slopes",), ("sinks", "slopes")


def check(kernels: ProcessPoolExecutor, case: Case) -> None:
    outcome, lse_error, is_same = kernels.submit(attend_with_lse, case).result()
    assert outcome.error <= outcome.allowed
    assert outcome.num_splits == case.options.get("num_splits", outcome.num_splits)
    assert lse_error < (1e-5 if case.dtype == "float32" else 1e-3)
    assert is_same


@pytest.mark.parametrize("heads", [ONE_TO_ONE, GROUPED])
@pytest.mark.parametrize("options", [WHOLE, SPLIT], ids=["whole", "split"])
@pytest.mark.parametrize("extras", [(), SINKS, SLOPES, BOTH], ids="+".join)
def test_decode_with_lse(
    kernels: ProcessPoolExecutor, extras: Sequence[str], options: dict[str, int], heads: tuple[int, int]
) -> None:
    check(kernels, Case(seq_lens=LENS, page_size=3, heads=heads, options=options, extras=extras))


@pytest.mark.parametrize("semantics", [{"sliding_window": 19}, {"soft_cap": 2.0}], ids=str)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_with_other_options(kernels: ProcessPoolExecutor, dtype: str, semantics: dict[str, Any]) -> None:
    case = Case(seq_lens=(1, 70), heads=(8, 2), dtype=dtype, extras=BOTH, semantics=semantics, paged=False)
    check(kernels, case)


@pytest.mark.parametrize("extras", [SINKS, SLOPES])
def test_the_check_sees_an_option_that_is_missing(kernels: ProcessPoolExecutor, extras: Sequence[str]) -> None:
    case = Case(seq_lens=LENS, extras=extras, mutation="no extras")
    outcome = kernels.submit(attend, case).result()
    assert outcome.error > outcome.allowed


@pytest.mark.parametrize(("heads", "dtype"), [((40, 1), "float16"), ((128, 2), "float16"), ((20, 1), "float32")])
def test_groups_that_take_several_programs(kernels: ProcessPoolExecutor, heads: tuple[int, int], dtype: str) -> None:
    case = Case(seq_lens=(5, 70), heads=heads, dtype=dtype, extras=BOTH)
    outcome = kernels.submit(attend, case).result()
    assert outcome.error <= outcome.allowed
    assert outcome.num_programs == 2 * 2 * heads[1]
    check(kernels, replace(case, options={"num_splits": 3, "block_tokens": 16}))


@pytest.mark.parametrize("paged", [True, False], ids=["pages", "regions"])
@pytest.mark.parametrize("heads", [ONE_TO_ONE, GROUPED])
@pytest.mark.parametrize("options", [WHOLE, SPLIT], ids=["whole", "split"])
@pytest.mark.parametrize("semantics", [{}, {"sliding_window": 30}], ids=["all", "window"])
def test_padding_rows_are_zeros(
    kernels: ProcessPoolExecutor,
    semantics: dict[str, int],
    options: dict[str, int],
    heads: tuple[int, int],
    paged: bool,
) -> None:
    case = Case(seq_lens=(70, 200, 40, 1), heads=heads, options=options, semantics=semantics, paged=paged)
    outcome, are_zeros, are_lowest = kernels.submit(attend_with_padding, case, (1, 3)).result()
    assert outcome.error <= outcome.allowed
    assert are_zeros
    assert are_lowest


def test_padding_rows_of_a_prompt_are_zeros(kernels: ProcessPoolExecutor) -> None:
    assert kernels.submit(prefill_padding, Case(seq_lens=(20, 5, 40), dtype="float16")).result()


@pytest.mark.parametrize("heads", [(2, 2), (8, 2), (40, 1)])
@pytest.mark.parametrize("extras", [SINKS, SLOPES], ids="+".join)
def test_prompts(kernels: ProcessPoolExecutor, extras: Sequence[str], heads: tuple[int, int]) -> None:
    case = Case(seq_lens=(1, 37, 70), page_size=3, heads=heads, dtype="float16", extras=extras)
    error, allowed = kernels.submit(prefill, case, (1, 5, 33)).result()
    assert error <= allowed


@pytest.mark.parametrize("paged", [True, False], ids=["pages", "regions"])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("heads", [(2, 2), (8, 2)])
def test_trees_of_drafted_tokens(kernels: ProcessPoolExecutor, heads: tuple[int, int], dtype: str, paged: bool) -> None:
    """The drafts are as long as the whole sequence, short, and a single token. A causal mask would be wrong."""
    case = Case(seq_lens=(7, 90, 33), page_size=3, heads=heads, dtype=dtype, paged=paged, extras=SINKS)
    error, allowed, causal_error = kernels.submit(prefill_tree, case, (7, 21, 1)).result()
    assert error <= allowed
    assert causal_error > allowed


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([[1, 1], [1, 1]], "trees[0] must show every token itself, and none after it"),
        ([[1, 0], [1, 0]], "trees[0] must show every token itself, and none after it"),
        ([[1, 0]], "trees[0] is torch.bool (1, 2); it must be a square of bools"),
    ],
)
def test_trees_that_cannot_be(kernels: ProcessPoolExecutor, rows: list[list[int]], said: str) -> None:
    assert kernels.submit(refused_trees, Case(seq_lens=(8,)), rows).result() == f"ValueError: {said}"


@pytest.mark.parametrize(
    ("case", "said"),
    [
        (Case(seq_lens=(8,), semantics={"sliding_window": 4}), "a tree cannot have model.sliding_window=4"),
        (Case(seq_lens=(8,), extras=SLOPES), "a tree cannot have ALiBi; call set_alibi(None) first"),
    ],
)
def test_trees_without_positions(kernels: ProcessPoolExecutor, case: Case, said: str) -> None:
    assert kernels.submit(refused_trees, case, [[1]]).result() == f"Unsupported: {said}"


def test_extras_that_cannot_be(kernels: ProcessPoolExecutor) -> None:
    assert kernels.submit(refused_extras).result() == [
        "sinks has shape (3,); it must be (4,)",
        "slopes has shape (4, 1); it must be (4,)",
        "sinks must be finite",
    ]


@pytest.mark.parametrize("extras", [(), BOTH], ids="+".join)
@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("heads", [(2, 2), (8, 2)])
def test_cascade_over_a_shared_prefix(
    kernels: ProcessPoolExecutor, heads: tuple[int, int], dtype: str, extras: Sequence[str]
) -> None:
    """Forks that hold only the prefix, a token more, and several tiles more."""
    case = Case(seq_lens=(64, 64, 65, 200, 90), page_size=16, heads=heads, dtype=dtype, extras=extras)
    error, allowed, lse_error, num_parts = kernels.submit(cascade, case, 64).result()
    assert error <= allowed
    assert lse_error < (1e-5 if dtype == "float32" else 1e-3)
    assert num_parts >= 2


@pytest.mark.parametrize(("page_size", "shared_tokens"), [(3, 60), (64, 64), (1, 50)])
def test_cascade_over_pages_of_any_size_and_less_than_is_shared(
    kernels: ProcessPoolExecutor, page_size: int, shared_tokens: int
) -> None:
    options = {"num_splits": 3, "block_tokens": 16}
    case = Case(seq_lens=(64, 70, 130), page_size=page_size, options=options, semantics={"soft_cap": 3.0})
    error, allowed, _, num_parts = kernels.submit(cascade, case, shared_tokens).result()
    assert error <= allowed
    assert num_parts > 3


def test_padding_rows_of_a_cascade_are_zeros(kernels: ProcessPoolExecutor) -> None:
    case = Case(seq_lens=(32, 40, 33, 90), page_size=16, heads=(8, 2))
    error, allowed, _, _ = kernels.submit(cascade, case, 32, (1,)).result()
    assert error <= allowed


TWO = Case(seq_lens=(40, 33), page_size=16)


@pytest.mark.parametrize(
    ("case", "shared_tokens", "said"),
    [
        (TWO, 20, "ValueError: shared_tokens=20 must be a multiple of page_size=16 from 16 to 33"),
        (TWO, 48, "ValueError: shared_tokens=48 must be a multiple of page_size=16 from 16 to 33"),
        (TWO, 32, "ValueError: shared_tokens=32: page 0 of the sequences is not shared by all"),
        (replace(TWO, paged=False), 16, "Unsupported: triton_contiguous cannot share a prefix. Use impl=paged_triton"),
    ],
)
def test_cascades_that_cannot_be(kernels: ProcessPoolExecutor, case: Case, shared_tokens: int, said: str) -> None:
    assert kernels.submit(refused_cascades, case, shared_tokens).result().startswith(said)


def test_a_cascade_has_no_window(kernels: ProcessPoolExecutor) -> None:
    case = Case(seq_lens=(32, 40), page_size=16, semantics={"sliding_window": 8})
    with pytest.raises(Exception, match=r"a cascade cannot have model\.sliding_window=8"):
        kernels.submit(cascade, case, 32).result()
