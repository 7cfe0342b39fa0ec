"""State machine: regions never overlap, and the parts of a reserved pool agree with their definitions."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from impls.interface import Admission, PoolExhausted
from impls.policies import Reserved
from impls.policies.arenas import BuddyArena
from impls.policies.reserved import ARENAS, ESTIMATES
from tests.support.policy_models import snapshot

ABSENT = 10**6
PICK = st.integers(0, 10**6)


class ReservedMachine(RuleBasedStateMachine):
    pool: Reserved

    @initialize(
        num_slots=st.integers(1, 400),
        max_seq_len=st.integers(1, 130),
        estimate=st.sampled_from(ESTIMATES),
        arena=st.sampled_from(ARENAS),
    )
    def make(self, num_slots: int, max_seq_len: int, estimate: str, arena: str) -> None:
        self.pool = Reserved(num_slots, max_seq_len, 8, estimate=estimate, arena=arena)  # type: ignore[arg-type]
        self.max_seq_len = max_seq_len
        self.fresh_arena = self.arena()
        self.lengths: dict[int, int] = {}
        self.final_lens: dict[int, int] = {}
        self.next_id = 0

    @rule(num_tokens=st.integers(1, 100), more=st.integers(0, 60))
    def admit(self, num_tokens: int, more: int) -> None:
        final_len = num_tokens + more
        if self.pool.can_admit(num_tokens, final_len) is not Admission.NOW:
            self.refused(PoolExhausted, lambda: self.pool.admit(self.next_id, num_tokens, final_len))
            return
        self.pool.admit(self.next_id, num_tokens, final_len)
        self.lengths[self.next_id], self.final_lens[self.next_id] = num_tokens, final_len
        self.next_id += 1

    @precondition(lambda self: self.lengths)
    @rule(pick=PICK, num_tokens=st.integers(1, 40))
    def append(self, pick: int, num_tokens: int) -> None:
        seq_id = self.pick(pick)
        if not self.pool.can_append(seq_id, num_tokens):
            self.refused(PoolExhausted, lambda: self.pool.append(seq_id, num_tokens))
            return
        assert not self.pool.append(seq_id, num_tokens)
        self.lengths[seq_id] += num_tokens

    @precondition(lambda self: self.lengths)
    @rule(pick=PICK)
    def free(self, pick: int) -> None:
        seq_id = self.pick(pick)
        self.pool.free(seq_id)
        del self.lengths[seq_id], self.final_lens[seq_id]
        self.refused(KeyError, lambda: self.pool.free(seq_id))

    @rule(pick=PICK)
    def impossible(self, pick: int) -> None:
        pool = self.pool
        for verb in (pool.append, pool.free, pool.seq_len, pool.region):
            self.refused(KeyError, lambda verb=verb: verb(ABSENT))
        self.refused(ValueError, lambda: pool.admit(ABSENT, 0, 1))
        self.refused(ValueError, lambda: pool.admit(ABSENT, -1, 1))
        self.refused(ValueError, lambda: pool.admit(ABSENT, 3, 2))
        self.refused(PoolExhausted, lambda: pool.admit(ABSENT, self.max_seq_len + 1, self.max_seq_len + 1))
        if self.lengths:
            seq_id = self.pick(pick)
            self.refused(ValueError, lambda: pool.admit(seq_id, 1, 1))
            self.refused(ValueError, lambda: pool.append(seq_id, -1))
            self.refused(IndexError, lambda: pool.slots(seq_id, 0, self.lengths[seq_id] + 1))

    @invariant()
    def regions_lie_apart_and_within(self) -> None:
        taken = [slot for first, size in map(self.pool.region, self.lengths) for slot in range(first, first + size)]
        assert len(set(taken)) == len(taken)
        assert not taken or (min(taken) >= 0 and max(taken) < self.pool.num_slots)
        for seq_id, num_tokens in self.lengths.items():
            first, size = self.pool.region(seq_id)
            assert num_tokens == self.pool.seq_len(seq_id) <= size
            assert self.pool.slots(seq_id, 0, num_tokens) == list(range(first, first + num_tokens))

    @invariant()
    def parts_are_as_defined_and_sum_to_the_pool(self) -> None:
        sizes = {seq_id: self.pool.region(seq_id)[1] for seq_id in self.lengths}
        split = self.pool.split()
        assert split.live == sum(self.lengths.values())
        assert split.reserved == sum(
            max(min(size, self.final_lens[seq_id]) - self.lengths[seq_id], 0) for seq_id, size in sizes.items()
        )
        assert split.live + split.reserved + split.internal == sum(sizes.values())
        assert sum(split) == self.pool.num_slots
        assert self.pool.usage().pool_bytes == self.pool.pool_bytes

    @rule(num_tokens=st.integers(1, 100), more=st.integers(0, 60))
    def external_is_what_copies_of_the_head_leave(self, num_tokens: int, more: int) -> None:
        before = snapshot(self.pool)
        split = self.pool.split(num_tokens, num_tokens + more)
        usage = self.pool.usage(num_tokens, num_tokens + more)
        assert snapshot(self.pool) == before
        trial = copy.deepcopy(self.pool)
        seq_id = ABSENT
        while trial.can_admit(num_tokens, num_tokens + more) is Admission.NOW:
            trial.admit(seq_id, num_tokens, num_tokens + more)
            seq_id += 1
        assert split.free == sum(trial.region(copied)[1] for copied in range(ABSENT, seq_id))
        assert sum(split) == self.pool.num_slots
        assert usage.external_fragmentation_bytes == split.external * 8
        assert 0 <= usage.largest_free_ratio <= 1

    def teardown(self) -> None:
        for seq_id in self.lengths:
            self.pool.free(seq_id)
        assert self.arena() == self.fresh_arena
        assert self.pool.counters["slots_taken"] == self.pool.counters["slots_freed"]

    def arena(self) -> str:
        """Return the free chunks. The order in which buddies were freed is no part of it."""
        arena = self.pool._arena
        chunks = [sorted(starts) for starts in arena._free] if isinstance(arena, BuddyArena) else arena._gaps
        return repr((chunks, arena.largest_ever))

    def refused(self, error: type[Exception], call: Callable[[], object]) -> None:
        before = snapshot(self.pool)
        with pytest.raises(error):
            call()
        assert snapshot(self.pool) == before

    def pick(self, pick: int) -> int:
        return list(self.lengths)[pick % len(self.lengths)]


TestReserved = ReservedMachine.TestCase
TestReserved.settings = settings(max_examples=80, stateful_step_count=30, deadline=None)
