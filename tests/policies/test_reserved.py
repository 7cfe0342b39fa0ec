"""Contiguous reservations: estimates, the buddy arena of the paper, and fragmentation of first fit."""

from __future__ import annotations

import random

import pytest

from impls.interface import Admission, PoolExhausted
from impls.policies import Reserved
from impls.policies.arenas import BuddyArena, FirstFitArena

PAPERS_SLOTS = 12 * 2**30 // 819200 // 16 * 16  # OPT-13B in 12 GiB: 983 units of 16 tokens


@pytest.mark.parametrize(("estimate", "expected"), [("max", 2048), ("pow2", 161 + 512), ("oracle", 161 + 338)])
def test_estimates_of_the_paper(estimate: str, expected: int) -> None:
    pool = Reserved(PAPERS_SLOTS, 2048, 1, estimate=estimate)  # type: ignore[arg-type]
    pool.admit(0, 161, 161 + 338)
    assert pool.region(0) == (0, expected)


def test_pow2_stops_at_the_longest_sequence() -> None:
    pool = Reserved(PAPERS_SLOTS, 2048, 1, estimate="pow2")
    pool.admit(0, 1500, 2048)
    assert pool.region(0) == (0, 2048)


@pytest.mark.parametrize("estimate", ["pow2", "oracle"])
def test_estimates_of_the_output_need_the_final_length(estimate: str) -> None:
    pool = Reserved(100, 50, 1, estimate=estimate)  # type: ignore[arg-type]
    for call in (lambda: pool.can_admit(3), lambda: pool.admit(0, 3), lambda: pool.usage(3)):
        with pytest.raises(ValueError, match="final_len=None must be an integer"):
            call()
    assert pool.usage().free_bytes == 100  # a sequence of one token, final length 1


def test_only_the_oracles_look_at_the_final_length() -> None:
    assert Reserved(100, 50, 1).can_admit(3, 60) is Admission.NOW
    assert Reserved(100, 50, 1, estimate="pow2").can_admit(3, 60) is Admission.NEVER
    assert Reserved(100, 50, 1, estimate="oracle").can_admit(3, 60) is Admission.NEVER


def test_the_buddy_arena_is_cut_as_the_papers() -> None:
    arena = BuddyArena(PAPERS_SLOTS, 2048)
    chunks = {1 << order: len(starts) for order, starts in enumerate(arena._free) if starts}
    assert chunks == {128: 7, 64: 1, 16: 1, 4: 1, 2: 1, 1: 1}


def test_seven_orca_max_sequences_fill_the_papers_arena() -> None:
    pool = Reserved(PAPERS_SLOTS, 2048, 819200, arena="buddy")
    for seq_id in range(7):
        pool.admit(seq_id, 161, 499)
    assert pool.can_admit(161, 499) is Admission.LATER
    split = pool.split(161, 499)
    assert split == (7 * 161, 7 * (499 - 161), 7 * (2048 - 499), 1392, 0, 0)
    assert split.external / pool.num_slots == pytest.approx(0.0885, abs=1e-4)  # the paper's 8.9 %


def test_what_the_buddies_round_up_is_known() -> None:
    pool = Reserved(PAPERS_SLOTS, 2048, 1, estimate="oracle", arena="buddy")
    pool.admit(0, 161, 499)
    assert (pool.region(0)[1], pool.rounding_slots, pool.split().internal) == (512, 13, 13)
    pool.free(0)
    assert pool.rounding_slots == 0


def test_buddies_split_and_join() -> None:
    arena = BuddyArena(16 * 8, 16 * 8)
    assert arena.take(17) == (0, 32)
    assert arena.take(1) == (32, 16)
    assert arena.usable_slots(64) == 64
    assert arena.usable_slots(16) == 80
    arena.give(0, 32)
    arena.give(32, 16)
    assert arena.take(16 * 8) == (0, 128)
    assert arena.largest_free == 0


def test_the_buddy_that_was_freed_last_is_taken_first() -> None:
    arena = BuddyArena(16 * 8, 16 * 8)
    chunks = [arena.take(16) for _ in range(8)]
    for place in (6, 0, 3):
        arena.give(*chunks[place])
    assert [arena.take(16) for _ in range(3)] == [chunks[place] for place in (3, 0, 6)]


def test_a_cut_and_its_reverse_leave_no_trace() -> None:
    arena = BuddyArena(PAPERS_SLOTS, 2048)
    rng = random.Random(0)
    held = [arena.take(16 * rng.choice([1, 2, 5, 30])) for _ in range(60)]
    for _ in range(40):
        arena.give(*held.pop(rng.randrange(len(held))))
    before = repr(vars(arena))
    taken = [arena.take(16 * rng.choice([1, 2, 5])) for _ in range(12)]
    assert repr(vars(arena)) != before
    for chunk in reversed(taken):
        arena.give(*chunk)
    assert repr(vars(arena)) == before


def test_slots_beyond_the_last_unit_are_external() -> None:
    pool = Reserved(16 * 3 + 5, 32, 1, arena="buddy")
    split = pool.split(32, 32)
    assert (split.free, split.external) == (32, 16 + 5)
    assert Reserved(15, 32, 1, arena="buddy").can_admit(1, 1) is Admission.NEVER


def test_first_fit_takes_the_first_gap_and_coalesces() -> None:
    arena = FirstFitArena(100)
    starts = [arena.take(20)[0] for _ in range(5)]
    assert starts == [0, 20, 40, 60, 80]
    assert arena.largest_free == 0
    arena.give(20, 20)
    arena.give(60, 20)
    assert (arena.largest_free, arena.usable_slots(15), arena.usable_slots(30)) == (20, 30, 0)
    arena.give(40, 20)
    assert arena.largest_free == 60
    assert arena.take(5) == (20, 5)
    arena.give(80, 20)
    arena.give(0, 20)
    arena.give(20, 5)
    assert arena.take(100) == (0, 100)


def test_gaps_too_small_for_the_head_are_external() -> None:
    pool = Reserved(100, 50, 8, estimate="oracle")
    for seq_id, final_len in enumerate((20, 20, 20, 20, 20)):
        pool.admit(seq_id, 10, final_len)
    pool.free(1)
    pool.free(3)
    usage = pool.usage(5, 30)
    assert (usage.external_fragmentation_bytes, usage.free_bytes) == (40 * 8, 0)
    assert usage.largest_free_ratio == 0.5
    usage = pool.usage(5, 15)
    assert (usage.external_fragmentation_bytes, usage.free_bytes) == (10 * 8, 30 * 8)


def test_a_region_cannot_grow() -> None:
    pool = Reserved(100, 50, 1, estimate="oracle")
    pool.admit(7, 3, 5)
    pool.append(7, 2)
    assert not pool.can_append(7)
    with pytest.raises(PoolExhausted, match="region of sequence 7"):
        pool.append(7)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_slots": 0}, "num_slots=0 must be at least 1"),
        ({"max_seq_len": -1}, "max_seq_len=-1 must be at least 1"),
        ({"estimate": "guess"}, "estimate='guess' must be one of max, pow2, oracle"),
        ({"arena": "heap"}, "arena='heap' must be one of first_fit, buddy"),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, object], message: str) -> None:
    defaults = {"num_slots": 10, "max_seq_len": 5, "token_bytes": 1}
    with pytest.raises(ValueError, match=message):
        Reserved(**{**defaults, **arguments})  # type: ignore[arg-type]
