"""The reference against the definition written out, and the error that it allows."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from impls.reference import allowed_error, decode_attention, max_rel_error, prefill_attention

Inputs = tuple[Tensor, list[Tensor], list[Tensor]]


def draw(lens: list[int], heads: tuple[int, int] = (4, 2), dtype: torch.dtype = torch.float32) -> Inputs:
    generator = torch.Generator().manual_seed(0)
    keys, values = (
        [torch.randn(seq_len, heads[1], 16, generator=generator).to(dtype) for seq_len in lens] for _ in range(2)
    )
    return torch.randn(len(lens), heads[0], 16, generator=generator).to(dtype), keys, values


def written_out(query: Tensor, keys: list[Tensor], values: list[Tensor]) -> Tensor:
    """The definition, one number at a time, in float64."""
    out = torch.zeros(query.shape, dtype=torch.float64)
    num_seqs, num_query_heads, head_dim = query.shape
    for seq in range(num_seqs):
        group_size = num_query_heads // keys[seq].shape[1]
        for head in range(num_query_heads):
            q = query[seq, head].double().tolist()
            k = keys[seq][:, head // group_size].double().tolist()
            v = values[seq][:, head // group_size].double().tolist()
            weights = [math.exp(sum(map(float.__mul__, q, row)) / math.sqrt(head_dim)) for row in k]
            for element in range(head_dim):
                column = [row[element] for row in v]
                out[seq, head, element] = sum(map(float.__mul__, weights, column)) / sum(weights)
    return out


@pytest.mark.parametrize("heads", [(1, 1), (4, 4), (6, 2), (4, 1)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_reference_is_the_definition(heads: tuple[int, int], dtype: torch.dtype) -> None:
    query, keys, values = draw([1, 2, 33], heads, dtype)
    reference = decode_attention(query, keys, values)
    assert reference.dtype == torch.float32
    assert max_rel_error(reference, written_out(query, keys, values)) < 1e-6


def test_a_window_is_as_if_older_tokens_were_not_there() -> None:
    query, keys, values = draw([1, 7, 33])
    short = [[rows[-7:] for rows in tensors] for tensors in (keys, values)]
    windowed = decode_attention(query, keys, values, window=7)
    assert max_rel_error(windowed, decode_attention(query, *short)) < 1e-6


def test_a_soft_cap_bends_scores_by_its_formula() -> None:
    query, keys, values = draw([20], heads=(1, 1))
    scores = (keys[0][:, 0].double() @ query[0, 0].double() / 4).tolist()  # head_dim 16
    weights = [math.exp(1.5 * math.tanh(score / 1.5)) for score in scores]
    expected = torch.tensor(weights, dtype=torch.float64) @ values[0][:, 0].double() / sum(weights)
    capped = decode_attention(query, keys, values, soft_cap=1.5)
    assert max_rel_error(capped[0], expected[None]) < 1e-6
    assert max_rel_error(capped, decode_attention(query, keys, values)) > 0.05


@pytest.mark.parametrize("window", [None, 3])
def test_prefill_is_decoding_each_token_when_it_was_the_newest(window: int | None) -> None:
    _, keys, values = draw([5, 12])
    generator = torch.Generator().manual_seed(1)
    queries = [torch.randn(count, 4, 16, generator=generator) for count in (5, 4)]
    together = prefill_attention(queries, keys, values, window=window)
    lens = [*range(1, 6), *range(9, 13)]
    whose = [0] * 5 + [1] * 4
    one_by_one = decode_attention(
        torch.cat(queries),
        [keys[seq][:length] for seq, length in zip(whose, lens, strict=True)],
        [values[seq][:length] for seq, length in zip(whose, lens, strict=True)],
        window=window,
    )
    assert max_rel_error(together, one_by_one) < 1e-6


def test_reference_refuses_what_does_not_belong_together() -> None:
    query, keys, values = draw([3, 4])
    with pytest.raises(ValueError, match=r"2 queries need as many K and V \(got 1 and 2\)"):
        decode_attention(query, keys[:1], values)
    with pytest.raises(ValueError, match="sequence 1: K has shape"):
        decode_attention(query, keys, [values[0], values[0]])


def test_error_is_that_of_the_worst_head() -> None:
    reference = torch.tensor([[[3.0, 4.0], [0.0, 1.0]], [[1.0, 0.0], [0.0, 2.0]]])
    out = reference.clone()
    out[1, 1, 0] = 0.5
    assert max_rel_error(out, reference) == 0.25
    assert max_rel_error(reference, reference) == 0
    assert max_rel_error(reference[:0], reference[:0]) == 0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_one_element_that_is_no_number_is_an_infinite_error(bad: float) -> None:
    reference = torch.ones(2, 2, 4)
    out = reference.clone()
    out[1, 0, 2] = bad
    assert max_rel_error(out, reference) == math.inf


def test_error_beside_a_head_of_zeros() -> None:
    reference = torch.tensor([[[0.0, 0.0], [1.0, 0.0]]])
    assert max_rel_error(reference, reference) == 0
    assert max_rel_error(reference + 1e-9, reference) == math.inf


def test_error_needs_equal_shapes() -> None:
    with pytest.raises(ValueError, match="shape"):
        max_rel_error(torch.ones(1, 2, 4), torch.ones(1, 2, 5))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("seq_len", [1, 2, 100, 5000])
def test_allowed_error_fits_the_precision(dtype: torch.dtype, seq_len: int) -> None:
    """Above zero even where arithmetic is exact, and never so large that it means nothing."""
    query, keys, values = draw([seq_len] * 4, dtype=dtype)
    reference = decode_attention(query, keys, values)
    epsilons = allowed_error(query, keys, values, reference) / torch.finfo(dtype).eps
    assert 1 <= epsilons <= (40 if dtype == torch.float32 else 4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_rounding_the_result_is_allowed_and_losing_a_bit_more_is_not(dtype: torch.dtype) -> None:
    query, keys, values = draw([500] * 4, dtype=dtype)
    reference = decode_attention(query, keys, values)
    allowed = allowed_error(query, keys, values, reference)
    assert max_rel_error(reference.to(dtype), reference) < allowed / 2
    assert max_rel_error(reference * (1 + 4 * torch.finfo(dtype).eps), reference) > allowed
