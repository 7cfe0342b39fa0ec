"""Prefix sharing: pages that are found again, pages that are evicted, and the hit rates of published traces."""

from __future__ import annotations

import gzip
import json
from collections import OrderedDict

import pytest

from impls.interface import Admission
from impls.policies import PrefixPool
from impls.policies.prefix_keys import keys_of_hash_ids, keys_of_tokens
from tests.support.policy_models import trace_file


def pool_of(num_pages: int = 6, page_size: int = 2, **options: object) -> PrefixPool:
    return PrefixPool(num_pages, page_size, 10, **options)  # type: ignore[arg-type]


def test_full_pages_of_a_live_prompt_are_shared() -> None:
    pool = pool_of()
    pool.admit(0, 5, keys=keys_of_tokens([1, 2, 3, 4, 5], 2))
    pool.admit(1, 5, keys=keys_of_tokens([1, 2, 3, 4, 5], 2))
    assert (pool.page_ids(0).tolist(), pool.page_ids(1).tolist()) == ([0, 1, 2], [0, 1, 3])
    assert pool._references.counts == {0: 2, 1: 2}
    assert pool.usage().shared_saved_bytes == 4 * 10
    assert pool.counters["pages_hit"] == 2
    assert pool.counters["pages_named"] == 2


def test_the_key_of_a_page_covers_all_tokens_before_it() -> None:
    pool = pool_of()
    pool.admit(0, 4, keys=keys_of_tokens([1, 2, 3, 4], 2))
    pool.admit(1, 2, keys=keys_of_tokens([9, 9], 2))
    assert pool.match(keys_of_tokens([9, 9, 3, 4], 2)) == pool.page_ids(1).tolist()
    assert pool.match(keys_of_tokens([1, 2, 9, 9], 2)) == [0]
    assert pool.match(keys_of_tokens([3, 4], 2)) == []


def test_freed_pages_stay_cached_until_memory_is_needed() -> None:
    pool = pool_of()
    pool.admit(0, 5, keys=keys_of_tokens([1, 2, 3, 4, 5], 2))
    pool.free(0)
    assert (pool.free_pages, pool.available_pages) == (4, 6)
    assert pool.split() == (0, 0, 0, 0, 4, 8)
    pool.admit(1, 6, keys=keys_of_tokens([1, 2, 3, 4, 9, 9], 2))
    assert pool.page_ids(1).tolist()[:2] == [0, 1]
    assert pool.counters["pages_revived"] == 2
    pool.free(1)
    pool.admit(2, 11)  # all six pages
    assert pool.counters["pages_evicted"] == 3
    pool.free(2)
    assert pool.match(keys_of_tokens([1, 2], 2)) == []


def test_the_least_recently_used_page_goes_first() -> None:
    pool = pool_of(3)
    for seq_id, token in enumerate((1, 2, 3, 1)):
        pool.admit(seq_id, 2, keys=[token])
        pool.free(seq_id)
    pool.admit(9, 1)
    assert [len(pool.match([token])) for token in (1, 2, 3)] == [1, 0, 1]


def test_pages_that_a_prompt_would_share_do_not_count_as_needed() -> None:
    pool = pool_of(4)
    keys = keys_of_tokens([1, 2, 3, 4, 5, 6], 2)
    pool.admit(0, 6, keys=keys)
    assert pool.can_admit(8) is Admission.LATER
    assert pool.can_admit(8, keys=keys) is Admission.NOW
    pool.free(0)
    assert pool.can_admit(8, keys=keys) is Admission.NOW
    assert pool.can_admit(9, keys=keys) is Admission.NEVER


def test_a_known_page_behind_an_unknown_one_is_replaced() -> None:
    pool = pool_of(4)
    pool.admit(0, 6, keys=["another", "ab", "abc"])
    pool.free(0)
    assert pool.match(["a", "ab"]) == []
    pool.admit(2, 6, keys=["a", "ab", "abc"])
    assert pool.match(["a", "ab", "abc"]) == pool.page_ids(2).tolist()
    assert pool.available_pages == pool.free_pages + len(pool.match(["another"]))


def test_keys_past_the_prompt_are_an_error() -> None:
    with pytest.raises(ValueError, match="keys has 2 page keys, but num_tokens=3 fill only 1 pages"):
        pool_of().admit(0, 3, keys=["a", "b"])


@pytest.mark.parametrize(
    ("page_size", "expected"),
    [
        (4, [(7, 0), (7, 1), (8, 0), (8, 1), (9, 0)]),
        (8, [(7, 0), (8, 0)]),
        (16, [(8, 0)]),
        (32, []),
    ],
)
def test_hash_blocks_become_pages_without_reaching_past_the_prompt(
    page_size: int, expected: list[tuple[int, int]]
) -> None:
    per_block = max(8 // page_size, 1)
    keys = keys_of_hash_ids([7, 8, 9], hash_block=8, num_tokens=21, page_size=page_size)
    assert keys == [block * per_block + place for block, place in expected]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_tokens": 25}, "hash_ids has 3 ids, but 25 tokens in blocks of 8 need 4"),
        ({"num_tokens": 16}, "hash_ids has 3 ids, but 16 tokens in blocks of 8 need 2"),
        ({"page_size": 3}, "page_size=3 must divide hash_block=8"),
        ({"page_size": 12}, "page_size=12 must divide hash_block=8"),
        ({"page_size": 0}, "page_size=0 must be at least 1"),
        ({"num_tokens": -1}, "num_tokens=-1 must be at least 1"),
    ],
)
def test_bad_hash_ids_are_an_error(arguments: dict[str, int], message: str) -> None:
    defaults = {"hash_block": 8, "num_tokens": 21, "page_size": 4}
    with pytest.raises(ValueError, match=message):
        keys_of_hash_ids([7, 8, 9], **{**defaults, **arguments})


def hash_ids_of(trace: str) -> list[list[int]]:
    with gzip.open(trace_file(f"{trace}_trace.jsonl.gz"), "rt") as lines:
        return [json.loads(line)["hash_ids"] for line in lines]


def pages_hit(requests: list[list[int]], num_pages: int) -> int:
    """Replay one request after the other, in pages of one trace block, the partial last one as a whole."""
    pool = PrefixPool(num_pages, 512, 1)
    for seq_id, ids in enumerate(requests):
        num_tokens = len(ids) * 512
        pool.admit(seq_id, num_tokens, keys=keys_of_hash_ids(ids, 512, num_tokens, 512))
        pool.free(seq_id)
    return pool.counters["pages_hit"]


def lru_hits(requests: list[list[int]], capacity: int) -> int:
    """Hits of an LRU cache of blocks. Of one request the last block is the least recently used, as in vLLM."""
    cache: OrderedDict[int, None] = OrderedDict()
    hits = 0
    for ids in requests:
        found = next((place for place, block in enumerate(ids) if block not in cache), len(ids))
        hits += found
        for block in ids[:found]:
            cache.move_to_end(block)
        for _ in range(len(cache) + len(ids) - found - capacity):
            cache.popitem(last=False)
        for block in reversed(ids):
            cache[block] = None
            cache.move_to_end(block)
    return hits


@pytest.mark.parametrize(
    ("trace", "occurrences", "percent"), [("conversation", 288_500, 36.64), ("synthetic", 121_877, 63.96)]
)
def test_an_endless_cache_hits_as_published(trace: str, occurrences: int, percent: float) -> None:
    requests = hash_ids_of(trace)
    assert sum(map(len, requests)) == occurrences
    assert 100 * pages_hit(requests, occurrences) / occurrences == pytest.approx(percent, abs=0.005)


PLAIN_LRU = {"conversation": (4.2, 4.5, 11.0, 21.1, 35.5), "synthetic": (4.1, 8.3, 27.9, 42.4, 64.0)}
"""Percent of the blocks that a plain LRU cache finds, which evicts the first block of a request first."""


@pytest.mark.parametrize("trace", [pytest.param("conversation", marks=pytest.mark.slow), "synthetic"])
def test_a_bounded_cache_finds_no_less_than_a_plain_lru(trace: str) -> None:
    requests = hash_ids_of(trace)
    occurrences = sum(map(len, requests))
    for num_pages, percent in zip((500, 1_000, 5_000, 10_000, 50_000), PLAIN_LRU[trace], strict=True):
        hits = pages_hit(requests, num_pages)
        assert hits == lru_hits(requests, num_pages)
        assert percent - 0.06 <= 100 * hits / occurrences <= 1.12 * percent + 0.06
