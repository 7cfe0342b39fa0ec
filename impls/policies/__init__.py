"""Memory policies: who owns which slots. Bookkeeping only, without torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from impls.interface import Policy
from impls.policies.family import Family
from impls.policies.ledger import SlotSplit, check_at_least
from impls.policies.lockstep import Lockstep, Request
from impls.policies.pages import PagePool
from impls.policies.prefix import PrefixPool
from impls.policies.reserved import Reserved
from impls.policies.saturated import SaturatedQueue
from impls.spec import ModelSpec

POLICIES: Final = ("reserved_max", "reserved_pow2", "reserved_oracle", "paged", "prefix")
"""Names that ``make_policy`` knows."""

__all__ = [
    "POLICIES",
    "Family",
    "Lockstep",
    "PagePool",
    "PrefixPool",
    "Request",
    "Reserved",
    "SaturatedQueue",
    "SlotSplit",
    "make_policy",
]


def make_policy(
    name: str,
    *,
    model: ModelSpec,
    budget_bytes: int,
    page_size: int,
    watermark: float = 0.0,
    arena: str = "first_fit",
    free_order: Sequence[int] | None = None,
    host_ratio: float = 0.0,
) -> Policy:
    """Make the policy of that name for a model and a memory budget.

    Args:
        name: one of ``POLICIES``.
        model: gives bytes per token and the longest sequence.
        budget_bytes: ``memory_budget`` in bytes: KV cache only, all layers; rounded down to whole
            pages or, for a reserved policy, slots.
        page_size: tokens per page; without effect on a reserved policy.
        watermark: fraction of the pages that admission keeps free; no effect on a reserved policy.
        arena: ``first_fit`` or ``buddy``, see ``Reserved``; no effect on a paged policy.
        free_order: see ``PagePool``.
        host_ratio: the host's pages, to which sequences can be swapped out, by the pool's; no effect on a reserved
            policy.

    Raises:
        ValueError: an unknown name or arena, a page size below 1, or a budget that does not hold one page or slot.
    """
    if name not in POLICIES:
        raise ValueError(f"policy={name!r} must be one of {', '.join(POLICIES)}")
    if name.startswith("reserved_"):
        num_slots = _units_in(budget_bytes, model.token_bytes, f"one token of {model.name}")
        estimate = name.removeprefix("reserved_")
        return Reserved(num_slots, model.max_seq_len, model.token_bytes, estimate=estimate, arena=arena)
    check_at_least(1, page_size=page_size)
    page_bytes = model.page_bytes(page_size)
    num_pages = _units_in(budget_bytes, page_bytes, f"one page of {page_size} tokens of {model.name}")
    pool = PrefixPool if name == "prefix" else PagePool
    return pool(
        num_pages,
        page_size,
        model.token_bytes,
        watermark=watermark,
        host_pages=int(host_ratio * num_pages),
        free_order=free_order,
    )


def _units_in(budget_bytes: int, unit_bytes: int, unit: str) -> int:
    if budget_bytes < unit_bytes:
        raise ValueError(f"memory_budget={budget_bytes} bytes must be at least {unit_bytes}, the bytes of {unit}")
    return budget_bytes // unit_bytes
