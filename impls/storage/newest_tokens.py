"""Find the query tokens of a prefill step: the newest tokens of each sequence. No torch."""

from __future__ import annotations

from collections.abc import Sequence

from impls.interface import Policy


def newest_slots(policy: Policy, seq_ids: Sequence[int], num_queries: Sequence[int]) -> list[int]:
    """Return the slots of each sequence's newest tokens, one sequence after another.

    Args:
        policy: owner of the slots.
        seq_ids: the batch.
        num_queries: number of query tokens of each sequence.

    Raises:
        ValueError: ``num_queries`` must have one number per sequence, from 1 to its length.
    """
    if len(num_queries) != len(seq_ids):
        raise ValueError(f"num_queries has {len(num_queries)} entries, and the batch has {len(seq_ids)} sequences")
    slots: list[int] = []
    for seq_id, count in zip(seq_ids, num_queries, strict=True):
        seq_len = policy.seq_len(seq_id)
        if not 1 <= count <= seq_len:
            raise ValueError(f"num_queries={count} must be from 1 to {seq_len}, the sequence's length")
        slots += policy.slots(seq_id, seq_len - count, seq_len)
    return slots
