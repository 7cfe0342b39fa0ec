"""Page layouts: always a permutation, and the pages of each sequence exactly where the layout puts them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.config import FixedWorkload, UniformWorkload, Workload
from bench.workload.layouts import aged_order, page_order
from bench.workload.requests import Requests, draw_requests
from impls.policies.pages import PagePool

PAGES = st.lists(st.integers(0, 12), max_size=12)
SEEDS = st.integers(min_value=0, max_value=2**40)


def pages_held(order: list[int], pages_per_seq: list[int]) -> list[list[int]]:
    """What a real pool gives to sequences that are admitted one after the other."""
    pool = PagePool(len(order), page_size=1, token_bytes=1, free_order=order)
    for seq_id, pages in enumerate(pages_per_seq):
        pool.admit(seq_id, pages)
    return [pool.page_ids(seq_id).tolist() for seq_id in range(len(pages_per_seq))]


@given(
    layout=st.sampled_from(["contiguous", "interleaved", "shuffled"]), pages=PAGES, spare=st.integers(0, 9), seed=SEEDS
)
def test_every_layout_is_a_permutation_of_the_pool(layout: str, pages: list[int], spare: int, seed: int) -> None:
    order = page_order(layout, pages_per_seq=pages, num_pages=sum(pages) + spare, seed=seed)
    assert order.dtype == np.int64
    assert sorted(order.tolist()) == list(range(sum(pages) + spare))


@given(num_seqs=st.integers(1, 8), pages=st.integers(1, 9), spare=st.integers(0, 5))
def test_interleaved_puts_page_j_of_sequence_i_at_j_times_num_seqs_plus_i(
    num_seqs: int, pages: int, spare: int
) -> None:
    order = page_order("interleaved", pages_per_seq=[pages] * num_seqs, num_pages=num_seqs * pages + spare, seed=0)
    held = pages_held(order.tolist(), [pages] * num_seqs)
    assert held == [[j * num_seqs + i for j in range(pages)] for i in range(num_seqs)]


@given(pages=st.lists(st.integers(1, 12), min_size=1, max_size=12), spare=st.integers(0, 5))
def test_ragged_interleaving_is_round_robin_over_those_that_still_need_a_page(pages: list[int], spare: int) -> None:
    expected: list[list[int]] = [[] for _ in pages]
    next_page = 0
    for j in range(max(pages)):
        for i, needed in enumerate(pages):
            if j < needed:
                expected[i].append(next_page)
                next_page += 1
    order = page_order("interleaved", pages_per_seq=pages, num_pages=sum(pages) + spare, seed=0)
    assert pages_held(order.tolist(), pages) == expected


def test_contiguous_ascends_within_and_across_sequences() -> None:
    order = page_order("contiguous", pages_per_seq=[2, 3], num_pages=6, seed=0)
    assert pages_held(order.tolist(), [2, 3]) == [[0, 1], [2, 3, 4]]


def test_shuffled_is_seeded_and_scatters() -> None:
    orders = [page_order("shuffled", pages_per_seq=[], num_pages=500, seed=seed) for seed in (0, 1, 1)]
    assert not np.array_equal(orders[0], orders[1])
    assert np.array_equal(orders[1], orders[2])
    assert np.mean(np.diff(orders[0]) == 1) < 0.02


@pytest.mark.parametrize("layout", ["aged", "shared_prefix", "nope"])
def test_an_order_that_is_not_a_permutation_is_refused(layout: str) -> None:
    with pytest.raises(ValueError, match=f"layout={layout} must be contiguous, interleaved or shuffled"):
        page_order(layout, pages_per_seq=[1], num_pages=1, seed=0)


def test_more_pages_than_the_pool_has_are_refused() -> None:
    with pytest.raises(ValueError, match="pages_per_seq sums to 5, more than num_pages=4"):
        page_order("contiguous", pages_per_seq=[2, 3], num_pages=4, seed=0)


def requests_of(workload: Workload, seed: int = 0) -> Requests:
    return draw_requests(workload, num_seqs=30, max_seq_len=1024, seed=seed)


@settings(deadline=None, max_examples=40)
@given(
    workload=st.sampled_from([FixedWorkload(length=20), UniformWorkload(low=1, high=60, prompt_ratio=0.3)]),
    num_pages=st.integers(1, 80),
    page_size=st.sampled_from([1, 3, 16, 64]),
    turnovers=st.floats(0, 4),
    seed=SEEDS,
)
def test_an_aged_order_is_a_permutation_whatever_was_served(
    workload: Workload, num_pages: int, page_size: int, turnovers: float, seed: int
) -> None:
    requests = requests_of(workload, seed)
    if requests.final_lens.min() > num_pages * page_size:
        with pytest.raises(ValueError, match=f"num_pages={num_pages} of page_size={page_size} hold none"):
            aged_order(requests, num_pages=num_pages, page_size=page_size, turnovers=turnovers, seed=seed)
        return
    order = aged_order(requests, num_pages=num_pages, page_size=page_size, turnovers=turnovers, seed=seed)
    assert order.dtype == np.int64
    assert sorted(order.tolist()) == list(range(num_pages))


def test_age_scatters_pages_but_not_into_a_random_permutation() -> None:
    requests = requests_of(UniformWorkload())
    fresh, aged, again = (
        aged_order(requests, num_pages=1000, page_size=16, turnovers=turnovers, seed=0) for turnovers in (0, 3, 3)
    )
    assert fresh.tolist() == list(range(1000))
    assert np.array_equal(aged, again)
    neighbours = np.mean(np.abs(np.diff(aged)) == 1)
    assert 0.01 < neighbours < 0.5


@pytest.mark.parametrize("turnovers", [1, 2, 3, 4])
def test_age_moves_runs_of_equal_sequences_and_keeps_their_order(turnovers: int) -> None:
    # Every sequence takes and gives back the same run of pages, so only their order can change.
    requests = requests_of(FixedWorkload(length=64))
    order = aged_order(requests, num_pages=40, page_size=16, turnovers=turnovers, seed=1)
    runs = order.reshape(-1, 4)
    assert np.all(np.diff(runs, axis=1) == 1)
    steps = set(np.diff(runs[:, 0]).tolist())
    assert len(steps) > 2  # neither ascending nor descending
