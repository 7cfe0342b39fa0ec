"""State machines: after any operations on a page pool, its sums are exact and no sequence loses a token."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from impls.interface import Admission, PageCopy, PoolExhausted
from impls.policies import PagePool, PrefixPool
from impls.policies.prefix_keys import keys_of_tokens
from tests.support.policy_models import snapshot, split_by_slots

ABSENT = 10**6
PICK = st.integers(0, 10**6)
PROMPT = st.lists(st.integers(0, 1), min_size=1, max_size=14)


class PoolMachine(RuleBasedStateMachine):
    """Drives a pool together with a storage of tokens that makes the page copies of the pool."""

    pool: Any
    cls: type[PagePool] = PagePool

    @initialize(
        num_pages=st.integers(4, 10),
        page_size=st.integers(1, 4),
        watermark=st.sampled_from([0.0, 0.25]),
        host_pages=st.integers(0, 6),
    )
    def make(self, num_pages: int, page_size: int, watermark: float, host_pages: int) -> None:
        self.pool = self.cls(num_pages, page_size, 8, watermark=watermark, host_pages=host_pages)
        self.tokens: dict[int, list[int]] = {}
        self.final_lens: dict[int, int | None] = {}
        self.swapped: dict[int, tuple[list[int], int | None]] = {}
        self.stored = [-1] * (num_pages * page_size)
        self.on_host = [-1] * (host_pages * page_size)
        self.next_id = 0

    def admit_prompt(self, prompt: list[int], final_len: int | None) -> Callable[[], None]:
        return lambda: self.pool.admit(self.next_id, len(prompt), final_len)

    def may_admit(self, prompt: list[int], final_len: int | None) -> Admission:
        answer: Admission = self.pool.can_admit(len(prompt), final_len)
        return answer

    @rule(prompt=PROMPT, more=st.one_of(st.none(), st.integers(0, 6)))
    def admit(self, prompt: list[int], more: int | None) -> None:
        final_len = None if more is None else len(prompt) + more
        admit = self.admit_prompt(prompt, final_len)
        if self.may_admit(prompt, final_len) is not Admission.NOW:
            self.refused(PoolExhausted, admit)
            return
        admit()
        self.tokens[self.next_id], self.final_lens[self.next_id] = prompt.copy(), final_len
        for slot, token in zip(self.pool.slots(self.next_id, 0, len(prompt)), prompt, strict=True):
            self.stored[slot] = token
        self.next_id += 1

    @precondition(lambda self: self.tokens)
    @rule(pick=PICK, more=st.lists(st.integers(0, 1), min_size=1, max_size=5))
    def append(self, pick: int, more: list[int]) -> None:
        seq_id = self.pick(self.tokens, pick)
        if not self.pool.can_append(seq_id, len(more)):
            self.refused(PoolExhausted, lambda: self.pool.append(seq_id, len(more)))
            return
        before = len(self.tokens[seq_id])
        self.copy(self.pool.append(seq_id, len(more)), self.stored, self.stored)
        self.tokens[seq_id] += more
        for slot, token in zip(self.pool.slots(seq_id, before, before + len(more)), more, strict=True):
            self.stored[slot] = token

    @precondition(lambda self: self.tokens)
    @rule(pick=PICK, more=st.one_of(st.none(), st.integers(0, 6)))
    def fork(self, pick: int, more: int | None) -> None:
        parent = self.pick(self.tokens, pick)
        final_len = None if more is None else len(self.tokens[parent]) + more
        self.pool.fork(parent, self.next_id, final_len)
        self.tokens[self.next_id] = self.tokens[parent].copy()
        self.final_lens[self.next_id] = final_len if final_len is not None else self.final_lens[parent]
        self.next_id += 1

    @precondition(lambda self: self.tokens)
    @rule(pick=PICK, kind=st.sampled_from(["free", "preempt"]))
    def go(self, pick: int, kind: str) -> None:
        seq_id = self.pick(self.tokens, pick)
        num_tokens = len(self.tokens.pop(seq_id))
        del self.final_lens[seq_id]
        assert getattr(self.pool, kind)(seq_id) == (num_tokens if kind == "preempt" else None)
        self.refused(KeyError, lambda: self.pool.free(seq_id))

    @precondition(lambda self: self.tokens)
    @rule(pick=PICK)
    def swap_out(self, pick: int) -> None:
        seq_id = self.pick(self.tokens, pick)
        if not self.pool.can_swap_out(seq_id):
            self.refused(PoolExhausted, lambda: self.pool.swap_out(seq_id))
            return
        self.copy(self.pool.swap_out(seq_id), self.stored, self.on_host)
        self.swapped[seq_id] = self.tokens.pop(seq_id), self.final_lens.pop(seq_id)
        self.refused(ValueError, lambda: self.pool.admit(seq_id, 1))

    @precondition(lambda self: self.swapped)
    @rule(pick=PICK)
    def swap_in(self, pick: int) -> None:
        seq_id = self.pick(self.swapped, pick)
        if self.pool.can_swap_in(seq_id) is not Admission.NOW:
            self.refused(PoolExhausted, lambda: self.pool.swap_in(seq_id))
            return
        self.copy(self.pool.swap_in(seq_id), self.on_host, self.stored)
        self.tokens[seq_id], self.final_lens[seq_id] = self.swapped.pop(seq_id)

    @rule(pick=PICK)
    def impossible(self, pick: int) -> None:
        pool = self.pool
        for verb in (pool.append, pool.free, pool.preempt, pool.swap_out, pool.swap_in, pool.seq_len, pool.page_ids):
            self.refused(KeyError, lambda verb=verb: verb(ABSENT))
        self.refused(KeyError, lambda: pool.fork(ABSENT, ABSENT + 1))
        self.refused(ValueError, lambda: pool.admit(ABSENT, 0))
        self.refused(ValueError, lambda: pool.admit(ABSENT, -3))
        self.refused(ValueError, lambda: pool.admit(ABSENT, 3, 2))
        self.refused(PoolExhausted, lambda: pool.admit(ABSENT, pool.num_pages * pool.page_size + 1))
        if self.tokens:
            seq_id = self.pick(self.tokens, pick)
            num_tokens = len(self.tokens[seq_id])
            self.refused(ValueError, lambda: pool.admit(seq_id, 1))
            self.refused(ValueError, lambda: pool.fork(seq_id, seq_id))
            self.refused(ValueError, lambda: pool.fork(seq_id, ABSENT, num_tokens - 1))
            self.refused(ValueError, lambda: pool.append(seq_id, 0))
            self.refused(KeyError, lambda: pool.swap_in(seq_id))
            self.refused(IndexError, lambda: pool.slots(seq_id, 0, num_tokens + 1))

    @invariant()
    def every_token_is_where_it_belongs(self) -> None:
        for seq_id, tokens in self.tokens.items():
            slots = self.pool.slots(seq_id, 0, self.pool.seq_len(seq_id))
            assert [self.stored[slot] for slot in slots] == tokens

    @invariant()
    def no_page_has_two_owners_unless_counted(self) -> None:
        owners = Counter(page for seq_id in self.tokens for page in self.pool.page_ids(seq_id))
        assert {page: count for page, count in owners.items() if count > 1} == self.pool._references.counts
        assert self.pool.num_pages - self.pool.available_pages == len(owners)

    @invariant()
    def parts_are_as_defined_and_sum_to_the_pool(self) -> None:
        split = split_by_slots(self.pool, self.final_lens)
        assert self.pool.split() == split
        usage = self.pool.usage()
        assert usage.pool_bytes == self.pool.pool_bytes == self.pool.num_pages * self.pool.page_size * 8
        assert usage.shared_saved_bytes == (sum(map(len, self.tokens.values())) - split.live) * 8

    @invariant()
    def counters_balance(self) -> None:
        count = self.pool.counters
        taken = count["pages_taken_admit"] + count["pages_taken_append"] + count["pages_swapped_in"]
        held = self.pool.num_pages - self.pool.available_pages
        assert taken + count.get("pages_revived", 0) == count["pages_freed"] + held
        gone = count["frees"] + count["preemptions"]
        assert count["admissions"] + count["forks"] == gone + len(self.tokens) + len(self.swapped)
        assert held <= count["peak_pages"] <= self.pool.num_pages

    def teardown(self) -> None:
        for seq_id in [*self.tokens, *self.swapped]:
            self.pool.free(seq_id)
        assert self.pool.num_seqs == 0
        assert self.pool.available_pages == self.pool.num_pages
        assert not self.pool._references.counts
        assert len(set(self.pool._free) | set(getattr(self.pool, "_cached", ()))) == self.pool.num_pages

    def refused(self, error: type[Exception], call: Callable[[], object]) -> None:
        before = snapshot(self.pool)
        with pytest.raises(error):
            call()
        assert snapshot(self.pool) == before

    def copy(self, copies: list[PageCopy], source: list[int], target: list[int]) -> None:
        size = self.pool.page_size
        for from_page, to_page in copies:
            target[to_page * size : (to_page + 1) * size] = source[from_page * size : (from_page + 1) * size]

    @staticmethod
    def pick(among: dict[int, Any], pick: int) -> int:
        return list(among)[pick % len(among)]


class PrefixMachine(PoolMachine):
    """The state machine for a prefix pool. Prompts have only two different tokens, so that many share a prefix."""

    cls = PrefixPool

    def keys(self, prompt: list[int]) -> list[Any]:
        return keys_of_tokens(prompt, self.pool.page_size)

    def admit_prompt(self, prompt: list[int], final_len: int | None) -> Callable[[], None]:
        keys = self.keys(prompt)
        pages = self.pool.match(keys)
        size = self.pool.page_size
        assert [self.stored[page * size + offset] for page in pages for offset in range(size)] == prompt[
            : len(pages) * size
        ]
        return lambda: self.pool.admit(self.next_id, len(prompt), final_len, keys=keys)

    def may_admit(self, prompt: list[int], final_len: int | None) -> Admission:
        answer: Admission = self.pool.can_admit(len(prompt), final_len, keys=self.keys(prompt))
        return answer

    @rule()
    def too_many_keys(self) -> None:
        self.refused(ValueError, lambda: self.pool.admit(ABSENT, 1, keys=[b"one", b"two"]))

    @invariant()
    def every_page_is_owned_cached_or_free(self) -> None:
        pool = self.pool
        owned = {page for seq_id in self.tokens for page in pool.page_ids(seq_id)}
        assert len(owned) + len(pool._cached) + pool.free_pages == pool.num_pages
        assert len(pool._cached) == pool.available_pages - pool.free_pages


quick = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestPagePool = PoolMachine.TestCase
TestPagePool.settings = quick
TestPrefixPool = PrefixMachine.TestCase
TestPrefixPool.settings = quick
