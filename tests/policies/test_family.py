"""Beams that grow and cross together have the same counters and memory as beams that do so one by one."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from impls.interface import PoolExhausted
from impls.policies import Family, PagePool


def pool_of_beams(size: int, width: int, prompt: int, final_len: int, num_pages: int = 80) -> PagePool:
    """Return a pool with beams that share a prompt, each with one token of its own."""
    pool = PagePool(num_pages, size, 1)
    pool.admit(0, prompt, final_len)
    for beam in range(1, width):
        pool.fork(0, beam)
    for beam in range(width):
        pool.append(beam)
    return pool


def sharing(pool: PagePool, width: int) -> list[list[int]]:
    """Return page tables with pages renamed by first appearance, so that only the sharing is compared."""
    seen: dict[int, int] = {}
    return [[seen.setdefault(page, len(seen)) for page in pool.page_ids(beam)] for beam in range(width)]


def forks_of(parents: Sequence[int]) -> list[tuple[int, int]]:
    dead = [beam for beam in range(len(parents)) if beam not in parents]
    return [(parents[child], child) for child in dead]


@settings(max_examples=150, deadline=None)
@given(
    size=st.integers(1, 5),
    prompt=st.integers(1, 11),
    more=st.integers(0, 6),
    steps=st.lists(st.lists(st.integers(0, 3), min_size=4, max_size=4), min_size=1, max_size=14),
    last_crosses=st.booleans(),
)
def test_a_family_is_its_beams_one_by_one(
    size: int, prompt: int, more: int, steps: list[list[int]], last_crosses: bool
) -> None:
    width = 4
    final_len = prompt + 1 + len(steps) + more
    alone, pool = (pool_of_beams(size, width, prompt, final_len) for _ in range(2))
    family = Family(pool, range(width))

    def same() -> None:
        for name in ("available_pages", "saved_pages", "saved_tokens"):
            assert getattr(pool, name) == getattr(alone, name), name
        assert pool.split() == alone.split()
        both = [{name: count for name, count in p.counters.items() if name != "peak_pages"} for p in (pool, alone)]
        assert both[0] == both[1]

    for place, parents in enumerate(steps):
        assert family.pages_for_next == alone.pages_for_next(range(width))
        family.grow()
        for beam in range(width):
            alone.append(beam)
        same()
        if place + 1 < len(steps) or last_crosses:
            family.cross(forks_of(parents))
            for parent, child in forks_of(parents):
                alone.follow(child, parent)
            same()
    family.leave()
    assert sharing(pool, width) == sharing(alone, width)
    assert sorted(pool._references.counts.values()) == sorted(alone._references.counts.values())
    for each in (pool, alone):
        each.append(0, final_len - each.seq_len(0) + 1)  # a shared last page is copied first
    assert pool.split() == alone.split()
    for each in (pool, alone):
        for beam in range(width):
            each.free(beam)
    assert pool.available_pages == pool.num_pages
    assert pool.split() == alone.split()


def test_what_a_family_refuses() -> None:
    pool = PagePool(20, 4, 1)
    pool.admit(0, 5, 20)
    pool.fork(0, 1)
    with pytest.raises(ValueError, match="seq_id=0 shares its last page"):
        Family(pool, (0, 1))
    pool.append(0)
    with pytest.raises(ValueError, match=r"beams \[0, 1\] must be of one length"):
        Family(pool, (0, 1))
    pool.append(1)
    family = Family(pool, (0, 1))
    with pytest.raises(ValueError, match="decodes in lockstep"):
        pool.append(0)
    family.cross([(0, 1)])
    with pytest.raises(ValueError, match="beams cross once after each token"):
        family.cross([(0, 1)])


def test_a_family_that_finds_no_page_changes_nothing() -> None:
    pool = pool_of_beams(2, 3, prompt=1, final_len=9, num_pages=4)
    family = Family(pool, range(3))
    before = (pool.split(), dict(pool.counters))
    with pytest.raises(PoolExhausted, match="3 pages are needed and 1 are available"):
        family.grow()
    assert (pool.split(), dict(pool.counters), family.num_tokens) == (*before, 2)
