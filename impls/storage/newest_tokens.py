"""The query tokens of a prefill step: the newest tokens of each sequence. Without torch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from impls.interface import Policy
from impls.policies import is_reserved, require_pages
from impls.spec import ceil_div


def newest_slots(policy: Policy, seq_ids: Sequence[int], num_queries: Sequence[int]) -> NDArray[np.int64]:
    """Return the slots of the newest tokens of each sequence, one sequence after another.

    The Python loop runs over sequences, not over tokens.

    Args:
        policy: the policy that assigned the slots.
        seq_ids: the batch.
        num_queries: number of query tokens of each sequence.

    Raises:
        ValueError: the batch is empty, or ``num_queries`` does not have one number per sequence, from 1 to the length
            of the sequence.
    """
    if not seq_ids:
        raise ValueError("seq_ids=[] must name at least one sequence")
    if len(num_queries) != len(seq_ids):
        raise ValueError(f"num_queries has {len(num_queries)} entries, but the batch has {len(seq_ids)} sequences")
    slots = []
    for seq_id, count in zip(seq_ids, num_queries, strict=True):
        seq_len = policy.seq_len(seq_id)
        if not 1 <= count <= seq_len:
            raise ValueError(f"num_queries={count} must be from 1 to {seq_len}, the length of the sequence")
        slots.append(_slots(policy, seq_id, seq_len - count, seq_len))
    return np.concatenate(slots)


def _slots(policy: Policy, seq_id: int, start: int, stop: int) -> NDArray[np.int64]:
    """Return ``policy.slots(seq_id, start, stop)`` as an array."""
    if is_reserved(policy):
        first_slot, _ = policy.region(seq_id)
        return np.arange(first_slot + start, first_slot + stop, dtype=np.int64)
    pool = require_pages(policy, "a prefill step")
    size = pool.page_size
    first_page = start // size
    pages = np.asarray(pool.page_ids(seq_id)[first_page : ceil_div(stop, size)], dtype=np.int64)
    slots = (pages[:, None] * size + np.arange(size)).reshape(-1)
    return slots[start - first_page * size : stop - first_page * size]
