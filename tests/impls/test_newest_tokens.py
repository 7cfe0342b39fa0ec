"""The slots of query tokens agree with the policy, for pages and for regions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from impls.interface import Policy
from impls.policies import PagePool, Reserved
from impls.storage.newest_tokens import newest_slots


def policies() -> list[Policy]:
    order = np.random.default_rng(0).permutation(200).tolist()
    return [PagePool(200, size, 1, free_order=order) for size in (1, 3, 16)] + [Reserved(800, 40, 1)]


@given(
    batch=st.lists(
        st.integers(1, 40).flatmap(lambda n: st.tuples(st.just(n), st.integers(1, n))), min_size=1, max_size=4
    )
)
def test_slots_are_those_of_the_policy(batch: list[tuple[int, int]]) -> None:
    for policy in policies():
        for seq_id, (length, _) in enumerate(batch):
            policy.admit(seq_id, length)
        expected = [slot for seq_id, (n, count) in enumerate(batch) for slot in policy.slots(seq_id, n - count, n)]
        slots = newest_slots(policy, range(len(batch)), [count for _, count in batch])
        assert slots.dtype == np.int64
        assert slots.tolist() == expected


def test_an_empty_batch_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"seq_ids=\[\] must name at least one sequence"):
        newest_slots(policies()[0], [], [])
