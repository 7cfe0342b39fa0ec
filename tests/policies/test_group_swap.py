"""Sequences that share pages are swapped out and in together, and still share them on the host and afterwards."""

from __future__ import annotations

import random

import pytest

from impls.interface import Admission, PoolExhausted
from impls.policies import PagePool

SIZE = 4


def check(pool: PagePool, lengths: dict[int, int]) -> None:
    """Compare every sum with one computed from the page tables."""
    tables = {seq_id: pool.page_ids(seq_id).tolist() for seq_id in lengths}
    held = {page for table in tables.values() for page in table}
    slots = {
        (table[token // SIZE], token % SIZE) for seq_id, table in tables.items() for token in range(lengths[seq_id])
    }
    split = pool.split()
    assert split.live == len(slots)
    assert split.live + split.reserved + split.internal == len(held) * SIZE
    assert pool.available_pages == pool.num_pages - len(held)
    assert pool.saved_tokens == sum(lengths.values()) - len(slots)
    assert pool.saved_pages == sum(map(len, tables.values())) - len(held)


@pytest.mark.parametrize("seed", range(40))
def test_sharing_survives_the_host(seed: int) -> None:
    rng = random.Random(seed)
    pool = PagePool(60, SIZE, 1, host_pages=40)
    prompt, width = rng.randint(1, 13), rng.randint(1, 5)
    pool.admit(0, prompt, prompt + 30)
    for beam in range(1, width):
        pool.fork(0, beam)
    lengths = dict.fromkeys(range(width), prompt)
    for _ in range(rng.randint(0, 12)):
        for beam in range(width):
            pool.append(beam)
            lengths[beam] += 1
        parent, child = rng.randrange(width), rng.randrange(width)
        if parent == child:
            continue
        if seed % 2:
            pool.follow(child, parent)
        else:
            pool.free(child)
            pool.fork(parent, child)
        check(pool, lengths)
        assert pool.page_ids(child) == pool.page_ids(parent)
    check(pool, lengths)
    pages_before, saved_before = pool.num_pages - pool.available_pages, (pool.saved_tokens, pool.saved_pages)
    assert pool.can_swap_out(*lengths)
    assert len(pool.swap_out(*lengths)) == pages_before, "a shared page moves once"
    check(pool, {})
    assert pool.pages_to_swap_in(*lengths) == pages_before
    assert pool.can_swap_in(*lengths) is Admission.NOW
    copies = pool.swap_in(*lengths)
    assert len({copy.target for copy in copies}) == pages_before
    assert (pool.saved_tokens, pool.saved_pages) == saved_before
    check(pool, lengths)
    for beam in lengths:
        assert pool.pages_for_next([beam]) in (0, 1)
    needed = pool.pages_for_next(lengths)
    free = pool.available_pages
    for beam in lengths:
        pool.append(beam)
        lengths[beam] += 1
    assert free - pool.available_pages == needed
    check(pool, lengths)
    for beam in lengths:
        pool.free(beam)
    check(pool, {})


def test_a_host_too_small_changes_nothing() -> None:
    pool = PagePool(10, SIZE, 1, host_pages=2)
    pool.admit(0, 9)
    pool.fork(0, 1)
    with pytest.raises(PoolExhausted, match=r"sequence 0, 1 needs 3 pages of the host; 2 are free"):
        pool.swap_out(0, 1)
    check(pool, {0: 9, 1: 9})


def test_one_of_a_group_may_be_freed_on_the_host() -> None:
    pool = PagePool(10, SIZE, 1, host_pages=4)
    pool.admit(0, 6)
    pool.fork(0, 1)
    pool.swap_out(0, 1)
    pool.free(0)
    pool.swap_in(1)
    check(pool, {1: 6})
    pool.admit(2, 8)
    pool.swap_out(1, 2)
    check(pool, {})


def test_following_leaves_no_trace_of_how() -> None:
    """``follow`` equals ``free`` and ``fork``, also for later copies and later frees."""
    pools = [PagePool(40, SIZE, 1), PagePool(40, SIZE, 1)]
    for pool in pools:
        pool.admit(0, 6, 20)
        pool.fork(0, 1)
        pool.fork(0, 2)
        for beam in (0, 1, 2, 0, 1, 2, 0, 1, 2):
            pool.append(beam)
    pools[0].follow(2, 0)
    pools[1].free(2)
    pools[1].fork(0, 2)
    for pool in pools:
        for beam in (0, 1, 2):
            pool.append(beam)
        pool.free(0)
    assert pools[0].counters == pools[1].counters
    assert pools[0].split() == pools[1].split()
    assert pools[0].saved_tokens == pools[1].saved_tokens


def test_only_an_equal_can_be_followed() -> None:
    pool = PagePool(10, SIZE, 1)
    pool.admit(0, 5, 9)
    pool.admit(1, 6, 9)
    with pytest.raises(ValueError, match="sequence 1 cannot follow 0: their lengths 6 and 5"):
        pool.follow(1, 0)
