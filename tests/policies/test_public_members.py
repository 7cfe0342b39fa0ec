"""The public members of each policy, listed so that they do not grow unnoticed."""

from __future__ import annotations

import pytest

from impls.interface import Policy
from impls.policies import PagePool, PrefixPool, Reserved

NAMES = "kind pool_bytes num_seqs counters can_admit admit can_append append free seq_len slots usage"
PAGED_NAMES = """
num_pages page_size host_pages free_pages available_pages kept_pages copied_pages saved_pages
page_ids pages_for_next shares_last_page fork follow preempt
can_swap_out swap_out pages_to_swap_in can_swap_in swap_in
"""

PROTOCOL = set(NAMES.split())
EVERY_POLICY = PROTOCOL | {"split", "saved_tokens", "largest_free_ratio"}
PAGES = set(PAGED_NAMES.split())
REGIONS = {"num_slots", "region", "largest_free_slots", "rounding_slots"}


def public_members(thing: object) -> set[str]:
    return {name for name in dir(thing) if not name.startswith("_")}


@pytest.mark.parametrize(
    ("thing", "expected"),
    [
        (Policy, PROTOCOL),
        (PagePool(1, 1, 1), EVERY_POLICY | PAGES),
        (PrefixPool(1, 1, 1), EVERY_POLICY | PAGES | {"match", "pages_to_admit"}),
        (Reserved(1, 1, 1), EVERY_POLICY | REGIONS),
    ],
    ids=["protocol", "paged", "prefix", "reserved"],
)
def test_the_public_members_are_those_listed(thing: object, expected: set[str]) -> None:
    assert public_members(thing) == expected
