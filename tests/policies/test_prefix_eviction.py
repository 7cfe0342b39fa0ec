"""Which cached pages a prefix pool evicts first, and keys that repeat within a prompt."""

from __future__ import annotations

import pytest

from impls.policies.prefix import PrefixPool
from impls.policies.prefix_keys import keys_of_hash_ids


def visit(pool: PrefixPool, seq_id: int, keys: list[int]) -> int:
    """Admit a prompt of full pages and free it. Return how many pages it found."""
    before = pool.counters["pages_hit"]
    pool.admit(seq_id, len(keys) * pool.page_size, keys=keys)
    pool.free(seq_id)
    return pool.counters["pages_hit"] - before


def test_the_last_page_of_a_chain_is_evicted_first() -> None:
    pool = PrefixPool(3, 1, 1)
    visit(pool, 0, [1, 2, 3])
    visit(pool, 1, [9])
    assert len(pool.match([1, 2, 3])) == 2, "vLLM still finds two pages"


@pytest.mark.parametrize(("pages", "hits"), [(16, 0), (20, 108), (23, 189), (24, 216)])
def test_sessions_in_turn_find_what_vllm_finds(pages: int, hits: int) -> None:
    """Three sessions of 8 pages, 30 requests (llm-d-inference-sim issue #704)."""
    pool = PrefixPool(pages, 1, 1)
    chains = [[10 * session + page for page in range(8)] for session in range(3)]
    assert sum(visit(pool, turn, chains[turn % 3]) for turn in range(30)) == hits


@pytest.mark.parametrize("keys", [[5, 5], [5, 6, 5], [5, 5, 5, 5], [1, 2, 1, 2]])
def test_a_key_that_repeats_within_a_prompt_does_no_harm(keys: list[int]) -> None:
    pool = PrefixPool(8, 1, 1)
    for seq_id in range(6):
        found = visit(pool, seq_id, keys)
        assert found <= len(set(keys))
        assert pool.available_pages == 8
    visit(pool, 9, list(range(20, 28)))
    assert pool.match(keys) == []


def test_ids_that_repeat_are_found_again_whole() -> None:
    pool = PrefixPool(8, 4, 1)
    keys = keys_of_hash_ids([7, 7, 7], 4, 12, 4)
    pool.admit(0, 12, keys=keys)
    pool.free(0)
    assert len(pool.match(keys)) == 3
