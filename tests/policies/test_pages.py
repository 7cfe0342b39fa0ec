"""The page pool, case by case. The state machine proves that its sums are always exact."""

from __future__ import annotations

import pytest

from impls.interface import Admission, PageCopy, PoolExhausted
from impls.policies import PagePool


def pool_of(num_pages: int = 8, page_size: int = 4, **options: object) -> PagePool:
    return PagePool(num_pages, page_size, 10, **options)  # type: ignore[arg-type]


def test_pages_come_in_the_given_order_and_the_last_freed_is_next() -> None:
    pool = pool_of(6, free_order=[3, 1, 4, 0, 5, 2])
    pool.admit(0, 8)
    pool.admit(1, 12)
    assert (pool.page_ids(0).tolist(), pool.page_ids(1).tolist()) == ([3, 1], [4, 0, 5])
    pool.free(0)
    pool.admit(2, 9)
    assert pool.page_ids(2).tolist() == [3, 1, 2]


def test_slots_follow_the_pages() -> None:
    pool = pool_of(free_order=[7, 2, 0, 1, 3, 4, 5, 6])
    pool.admit(0, 6)
    assert pool.slots(0, 3, 6) == [31, 8, 9]
    assert pool.slots(0, 6, 6) == []
    with pytest.raises(IndexError, match=r"tokens 3 \.\. 6 .* sequence of 6"):
        pool.slots(0, 3, 7)


def test_a_page_is_taken_when_the_last_one_is_full() -> None:
    pool = pool_of()
    pool.admit(0, 3)
    pool.append(0)
    assert len(pool.page_ids(0)) == 1
    pool.append(0)
    assert len(pool.page_ids(0)) == 2
    pool.append(0, 11)
    assert len(pool.page_ids(0)) == 4
    assert pool.counters["pages_taken_admit"] == 1
    assert pool.counters["pages_taken_append"] == 3
    assert pool.counters["appends"] == 13


def test_parts_of_one_sequence() -> None:
    pool = pool_of()
    pool.admit(0, 5, 7)
    assert pool.split() == (5, 2, 1, 0, 0, 24)  # 7 of the 8 slots held will be used
    pool.append(0, 2)
    assert pool.split() == (7, 0, 1, 0, 0, 24)
    pool.append(0, 1)  # longer than its final length
    assert pool.split() == (8, 0, 0, 0, 0, 24)
    pool.admit(1, 1)  # its final length is unknown
    assert pool.split() == (9, 0, 3, 0, 0, 20)
    pool.admit(2, 2, 100)
    assert pool.split() == (11, 2, 3, 0, 0, 16)
    usage = pool.usage(10**6)
    assert usage.live_bytes == 110
    assert usage.external_fragmentation_bytes == 0
    assert usage.largest_free_ratio == 1.0


def test_the_last_writer_of_a_shared_page_writes_in_place() -> None:
    pool = pool_of()
    pool.admit(0, 6)
    pool.fork(0, 1)
    pool.fork(1, 2)
    assert pool._references.counts == {0: 3, 1: 3}
    assert list(pool.append(1)) == [PageCopy(1, 2)]
    assert list(pool.append(0)) == [PageCopy(1, 3)]
    assert list(pool.append(2)) == []
    assert [pool.page_ids(seq_id).tolist() for seq_id in range(3)] == [[0, 3], [0, 2], [0, 1]]
    assert pool._references.counts == {0: 3}
    assert pool.usage().shared_saved_bytes == 2 * 4 * 10
    assert pool.counters["pages_copied"] == 2


def test_a_fork_of_full_pages_copies_nothing() -> None:
    pool = pool_of()
    pool.admit(0, 8)
    pool.fork(0, 1)
    assert list(pool.append(0)) == []
    assert list(pool.append(1)) == []
    assert (pool.page_ids(0).tolist(), pool.page_ids(1).tolist()) == ([0, 1, 2], [0, 1, 3])


def test_a_shared_last_page_is_reserved_for_the_owner_that_fills_most_of_it() -> None:
    pool = pool_of()
    pool.admit(0, 5, 6)
    pool.fork(0, 1, 8)
    assert pool.split() == (5, 3, 0, 0, 0, 24)
    pool.free(1)
    assert pool.split() == (5, 1, 2, 0, 0, 24)


def test_an_append_that_needs_a_copy_needs_a_page() -> None:
    pool = pool_of(2)
    pool.admit(0, 6)
    pool.fork(0, 1)
    assert not pool.can_append(0)
    with pytest.raises(PoolExhausted, match="sequence 0 needs 1 more pages and 0 are available"):
        pool.append(0)
    pool.free(1)
    assert list(pool.append(0)) == []


def test_the_watermark_binds_admission_and_swap_in_but_not_appends() -> None:
    pool = pool_of(100, 1, watermark=0.05, host_pages=100)
    assert pool.can_admit(96) is Admission.NEVER
    pool.admit(0, 90)
    assert pool.can_admit(5) is Admission.NOW
    assert pool.can_admit(6) is Admission.LATER
    pool.append(0, 8)
    assert pool.free_pages == 2
    pool.swap_out(0)
    assert pool.can_swap_in(0) is Admission.NEVER
    with pytest.raises(PoolExhausted, match="needs 98 pages: of 100, 100 are available and 5 are kept free"):
        pool.swap_in(0)
    pool.free(0)
    assert pool.num_seqs == 0


def test_a_preempted_sequence_keeps_nothing() -> None:
    pool = pool_of()
    pool.admit(5, 6)
    pool.append(5)
    assert pool.preempt(5) == 7
    assert pool.free_pages == 8
    assert pool.counters["preemptions"] == 1
    assert pool.counters["frees"] == 0


def test_swapping_names_the_pages_to_copy() -> None:
    pool = pool_of(host_pages=2)
    pool.admit(0, 7, 8)
    pool.admit(1, 4)
    assert pool.swap_out(0) == [PageCopy(0, 0), PageCopy(1, 1)]
    assert not pool.can_swap_out(1)
    with pytest.raises(PoolExhausted, match="sequence 1 needs 1 pages of the host; 0 are free"):
        pool.swap_out(1)
    with pytest.raises(KeyError, match="sequence 0 holds no memory"):
        pool.seq_len(0)
    pool.append(1)
    assert pool.swap_in(0) == [PageCopy(0, 1), PageCopy(1, 3)]
    assert pool.seq_len(0) == 7
    assert pool.split().reserved == 1
    assert pool.swap_out(1) == [PageCopy(2, 0), PageCopy(0, 1)]
    assert pool.counters["pages_swapped_out"] == 4
    assert pool.counters["pages_swapped_in"] == 2


def test_the_peak_is_remembered() -> None:
    pool = pool_of()
    pool.admit(0, 20)
    pool.free(0)
    pool.admit(1, 1)
    assert pool.counters["peak_pages"] == 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_pages": 0}, "num_pages=0 must be at least 1"),
        ({"page_size": 0}, "page_size=0 must be at least 1"),
        ({"page_size": -16}, "page_size=-16 must be at least 1"),
        ({"token_bytes": 0}, "token_bytes=0 must be at least 1"),
        ({"host_pages": -1}, "host_pages=-1 must be at least 0"),
        ({"watermark": 1.0}, "watermark=1.0 must be at least 0 and below 1"),
        ({"watermark": -0.1}, "watermark=-0.1 must be at least 0 and below 1"),
        ({"free_order": [0, 1, 1]}, r"free_order must hold each of 0 \.\. 2 once"),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, object], message: str) -> None:
    defaults = {"num_pages": 3, "page_size": 4, "token_bytes": 1}
    with pytest.raises(ValueError, match=message):
        PagePool(**{**defaults, **arguments})  # type: ignore[arg-type]
