"""What the notebook computes, written out again operation by operation, for comparison.

Same draws in the same order from NumPy's global legacy generator, same arithmetic on the same
types. ``test_notebook.py`` checks it against the notebook's own cells if they are available.
"""

from __future__ import annotations

from typing import Any

import numpy as np


def simulate_traditional_kv_cache(num_sequences: int, max_seq_length: int, hidden_dim: int) -> dict[str, Any]:
    total = wasted = 0
    active: list[int] = []
    for number in range(num_sequences):
        length = np.random.randint(10, max_seq_length + 1)
        total += max_seq_length * hidden_dim
        wasted += max_seq_length * hidden_dim - length * hidden_dim
        active.append(number)
        if number > 0 and np.random.random() < 0.3:
            active.pop(np.random.randint(0, len(active)))
    return {
        "total_allocated": total,
        "wasted_memory": wasted,
        "efficiency": 1 - (wasted / total) if total > 0 else 0,
        "active_sequences": len(active),
    }


def simulate_paged_attention(
    num_sequences: int, max_seq_length: int, hidden_dim: int, page_size: int = 16
) -> dict[str, Any]:
    num_pages = int((num_sequences * max_seq_length * 0.6 + page_size - 1) // page_size * 1.2)
    owner: list[int | None] = [None] * num_pages
    active: list[int] = []
    tokens = pages_allocated = 0
    for number in range(num_sequences):
        length = np.random.randint(10, max_seq_length + 1)
        needed = (length + page_size - 1) // page_size
        free = [page for page, sequence in enumerate(owner) if sequence is None]
        if len(free) >= needed:
            for page in free[:needed]:
                owner[page] = number
            tokens += length
            pages_allocated += needed
            active.append(number)
        if len(active) > 0 and np.random.random() < 0.3:
            gone = active.pop(np.random.randint(0, len(active)))
            owner = [None if sequence == gone else sequence for sequence in owner]
    used = pages_allocated * page_size * hidden_dim
    wasted = used - tokens * hidden_dim
    return {
        "total_capacity": num_pages * page_size * hidden_dim,
        "used_capacity": used,
        "wasted_capacity": wasted,
        "efficiency": 1 - (wasted / used) if used > 0 else 0,
        "active_sequences": len(active),
        "free_pages": owner.count(None),
        "total_pages": num_pages,
    }


def compare_memory_efficiency(
    num_sequences_list: list[int], max_seq_length: int, hidden_dim: int, page_size: int = 16
) -> tuple[list[float], list[float]]:
    traditional, paged = [], []
    for number in num_sequences_list:
        traditional.append(simulate_traditional_kv_cache(number, max_seq_length, hidden_dim)["efficiency"])
        paged.append(simulate_paged_attention(number, max_seq_length, hidden_dim, page_size)["efficiency"])
    return traditional, paged


def analyze_page_size_impact(
    page_sizes: list[int], num_sequences: int, max_seq_length: int, hidden_dim: int
) -> list[float]:
    shape = (num_sequences, max_seq_length, hidden_dim)
    return [simulate_paged_attention(*shape, page_size)["efficiency"] for page_size in page_sizes]


def simulate_concurrent_requests(
    max_memory: int, max_seq_length: int, hidden_dim: int, page_size: int = 16
) -> tuple[int, float]:
    pages_per_seq = (max_seq_length * 0.6 + page_size - 1) // page_size
    return max_memory // (max_seq_length * hidden_dim), max_memory // (page_size * hidden_dim) // pages_per_seq
