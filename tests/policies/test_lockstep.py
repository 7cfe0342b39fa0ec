"""Lockstep decoding against a plain replay, token by token, of the same rules."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from impls.policies import PagePool, PrefixPool, Reserved
from impls.policies.lockstep import Lockstep, Request
from impls.policies.saturated import SaturatedQueue
from tests.support.policy_models import PlainReplay, snapshot, split_by_slots, trace_file


@st.composite
def queues(draw: st.DrawFn) -> tuple[int, int, list[Request]]:
    """A pool and requests that it can each bring to an end."""
    num_pages, page_size = draw(st.integers(1, 12)), draw(st.integers(1, 5))
    if num_pages * page_size == 1:
        num_pages = 2
    final_len = st.integers(2, num_pages * page_size)
    lengths = draw(st.lists(final_len.flatmap(lambda n: st.tuples(st.integers(1, n - 1), st.just(n))), max_size=14))
    return num_pages, page_size, [Request(seq_id, *pair) for seq_id, pair in enumerate(lengths)]


@settings(max_examples=200, deadline=None)
@given(queues())
def test_every_step_is_that_of_the_plain_replay(queue: tuple[int, int, list[Request]]) -> None:
    num_pages, page_size, requests = queue
    pool = PagePool(num_pages, page_size, 1)
    ours, plain = SaturatedQueue(pool, requests), PlainReplay(num_pages, page_size, requests)
    for split, expected in zip(ours.steps(), plain.steps(), strict=True):
        running = [request for request, _ in plain.running]
        assert split == expected == split_by_slots(pool, {r.seq_id: r.final_len for r in running})
        assert [pool.seq_len(r.seq_id) for r in running] == [r.num_tokens for r in running]
        assert [pool.page_ids(r.seq_id).tolist() for r in running] == [pages for _, pages in plain.running]
        assert pool.num_seqs == ours.batch.num_seqs == len(running)
    assert plain.counters.items() <= ours.counters.items()
    assert pool.free_pages == num_pages
    assert sum(pool.split()[:-1]) == 0


@pytest.mark.slow
def test_the_azure_trace_is_replayed_exactly() -> None:
    with gzip.open(trace_file("AzureLLMInferenceTrace_conv.csv.gz"), "rt") as lines:
        rows = [(int(row["ContextTokens"]), int(row["GeneratedTokens"])) for row in csv.DictReader(lines)]
    requests = [Request(seq_id, prompt, prompt + output) for seq_id, (prompt, output) in enumerate(rows)]
    ours, plain = SaturatedQueue(PagePool(7864, 16, 1), requests), PlainReplay(7864, 16, requests)
    assert all(split == expected for split, expected in zip(ours.steps(), plain.steps(), strict=True))
    assert plain.counters.items() <= ours.counters.items()
    assert ours.counters["appends"] == sum(output for _, output in rows) == 4_088_665


@pytest.mark.parametrize("arena", ["first_fit", "buddy"])
@pytest.mark.parametrize("estimate", ["max", "pow2", "oracle"])
@settings(max_examples=30, deadline=None)
@given(pairs=st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), max_size=12))
def test_reservations_decode_in_lockstep_too(estimate: str, arena: str, pairs: list[tuple[int, int]]) -> None:
    def pool_of() -> Reserved:
        return Reserved(200, 96, 1, estimate=estimate, arena=arena)  # type: ignore[arg-type]

    requests = [Request(seq_id, prompt, prompt + output) for seq_id, (prompt, output) in enumerate(pairs)]
    ours, plain = SaturatedQueue(pool_of(), requests), pool_of()
    waiting, running = list(requests), list[Request]()
    for split in ours.steps():
        while waiting and plain.can_admit(*waiting[0][1:]).value == "now":
            running.append(waiting.pop(0))
            plain.admit(*running[-1])
        for request in running:
            plain.append(request.seq_id)
        assert split == plain.split(*(waiting[0][1:] if waiting else ()))
        for request in [r for r in running if plain.seq_len(r.seq_id) == r.final_len]:
            plain.free(request.seq_id)
            running.remove(request)
    assert not waiting
    assert not running
    assert plain.counters.items() <= ours.counters.items()


def test_requests_that_cannot_end_are_refused_and_named() -> None:
    requests = [Request(0, 4, 9), Request(1, 4, 8), Request(2, 9, 10)]
    queue = SaturatedQueue(PagePool(4, 2, 1), requests)
    assert queue.refused == [requests[0], requests[2]]
    assert len(list(queue.steps())) == 4
    assert queue.counters["refused"] == 2
    assert queue.counters["frees"] == 1


def test_a_queue_needs_an_empty_pool_and_requests_that_grow() -> None:
    pool = PagePool(4, 2, 1)
    with pytest.raises(ValueError, match="final_len=4 of request 7 must be above its num_tokens=4"):
        SaturatedQueue(pool, [Request(7, 4, 4)])
    pool.admit(0, 1)
    with pytest.raises(ValueError, match="policy holds 1 sequences and must be empty"):
        SaturatedQueue(pool, [])


def test_a_prefix_pool_evicts_for_a_growing_batch() -> None:
    pool = PrefixPool(4, 2, 1)
    pool.admit(0, 4, keys=["a", "ab"])
    pool.free(0)
    pool.admit(1, 4, 8, keys=["a", "xy"])
    batch = Lockstep(pool)
    batch.join(1)
    for _ in range(4):
        assert batch.grow() == []
    assert pool.page_ids(1).tolist()[0] == 0
    assert pool.counters["pages_evicted"] == 1
    assert batch.retire() == [1]
    assert pool.available_pages - pool.free_pages == 2


def batch_of_two() -> Lockstep:
    """Two sequences of 3 tokens in pages of 4, the second one the newest."""
    batch = Lockstep(PagePool(8, 4, 1))
    for seq_id in (5, 6):
        batch.policy.admit(seq_id, 3, 7)
        batch.join(seq_id)
    return batch


def test_a_sequence_may_leave_and_join_again() -> None:
    batch = batch_of_two()
    batch.grow()
    batch.leave(5)
    batch.policy.append(5)
    assert (batch.newest, batch.missing_pages) == (6, 0)
    batch.join(5)
    assert (batch.newest, batch.num_seqs) == (5, 2)
    batch.grow()
    assert (batch.policy.seq_len(5), batch.policy.seq_len(6)) == (6, 5)
    batch.grow()
    assert batch.retire() == [5]
    batch.grow()
    assert batch.retire() == [6]
    assert batch.policy.split() == (0, 0, 0, 0, 0, 32)
    assert batch.counters["steps"] == 4


def test_missing_pages_are_known_before_the_step() -> None:
    batch = batch_of_two()
    batch.grow()
    batch.policy.admit(7, 21)
    assert batch.policy.can_admit(1).value == "later"
    assert batch.missing_pages == 2
    assert batch.grow() == [Request(6, 4, 7)]
    assert (batch.num_seqs, batch.policy.seq_len(5)) == (1, 5)


def test_what_a_batch_owns_cannot_be_changed_beside_it() -> None:
    batch = batch_of_two()
    pool = batch.policy
    assert isinstance(pool, PagePool)
    for verb in (pool.append, pool.free, pool.preempt, pool.swap_out, batch.join):
        refused(batch, ValueError, lambda verb=verb: verb(5))
    refused(batch, ValueError, lambda: pool.fork(5, 9))


def test_a_sequence_that_cannot_decode_in_lockstep_is_refused() -> None:
    batch = batch_of_two()
    pool = batch.policy
    assert isinstance(pool, PagePool)
    refused(batch, KeyError, lambda: batch.join(1))
    refused(batch, KeyError, lambda: batch.leave(1))
    pool.admit(1, 5)
    refused(batch, ValueError, lambda: batch.join(1))  # its final length is unknown
    pool.admit(2, 5, 5)
    refused(batch, ValueError, lambda: batch.join(2))  # it has reached its final length
    pool.admit(3, 5, 9)
    pool.fork(3, 4)
    refused(batch, ValueError, lambda: batch.join(3))  # it shares its last page
    pool.free(2)
    pool.append(4)
    batch.join(3)
    short = Lockstep(Reserved(10, 5, 1))
    short.policy.admit(0, 3, 8)
    refused(short, ValueError, lambda: short.join(0))
    with pytest.raises(IndexError, match="the batch is empty"):
        _ = short.newest


def test_the_ended_must_be_retired_before_the_next_step() -> None:
    batch = batch_of_two()
    for _ in range(4):
        assert batch.retire() == []
        batch.grow()
    refused(batch, RuntimeError, batch.grow)
    assert batch.retire() == [5, 6]
    assert batch.grow() == []


def refused(batch: Lockstep, error: type[Exception], call: Callable[[], object]) -> None:
    before = snapshot(batch)
    with pytest.raises(error):
        call()
    assert snapshot(batch) == before
