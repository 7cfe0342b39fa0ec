"""Memory policies assign slots to sequences. They do bookkeeping only, without torch."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeGuard

from impls.interface import POLICY_KINDS, Policy, PolicyKind, Unsupported
from impls.policies.family import Family
from impls.policies.ledger import SlotSplit, check_at_least
from impls.policies.lockstep import Lockstep, Request
from impls.policies.pages import PagePool
from impls.policies.prefix import PrefixPool
from impls.policies.reserved import Reserved
from impls.policies.saturated import SaturatedQueue
from impls.spec import ModelSpec

POLICIES: Final = tuple(POLICY_KINDS)
"""Names that ``make_policy`` accepts."""

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
    "finds_prefixes",
    "is_paged",
    "is_reserved",
    "make_policy",
    "require_pages",
    "require_regions",
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
    target: str = "",
    kind: str = "",
) -> Policy:
    """Create an empty policy for a model and a memory budget.

    Args:
        name: one of ``POLICIES``, or the name of a policy with a ``target``.
        model: gives bytes per token and the longest sequence.
        budget_bytes: ``memory_budget`` in bytes, for the KV cache of all layers. It is rounded down to whole pages,
            or to whole slots for a reserved policy.
        page_size: tokens per page. No effect on a reserved policy.
        watermark: fraction of the pages that admission keeps free. No effect on a reserved policy.
        arena: ``first_fit`` or ``buddy`` (see ``Reserved``). No effect on a paged policy.
        free_order: see ``PagePool``. No effect on a reserved policy.
        host_ratio: pages of the swap pool on the host, divided by pages of the pool. No effect on a reserved policy.
        target: ``package.module.Class`` of a policy that is not one of ``POLICIES``. The class has the constructor
            of ``PagePool`` or, for ``kind="reserved"``, that of ``Reserved``.
        kind: value of the ``PolicyKind`` of the target.

    Raises:
        ValueError: an unknown name, arena, target or kind, a page size below 1, or a budget that does not hold one
            page or slot.
    """
    if target:
        make, granted = _class_of(target), PolicyKind(kind)
    elif name in POLICIES:
        make, granted = _CLASSES[POLICY_KINDS[name]], POLICY_KINDS[name]
    else:
        raise ValueError(f"policy={name!r} must be one of {', '.join(POLICIES)}, or have a policy.target")
    if granted is PolicyKind.RESERVED:
        num_slots = _units_in(budget_bytes, model.token_bytes, f"one token of {model.name}")
        estimate = {} if target else {"estimate": name.removeprefix("reserved_")}
        policy = make(num_slots, model.max_seq_len, model.token_bytes, arena=arena, **estimate)
        return _checked(policy, granted, target)
    check_at_least(1, page_size=page_size)
    page_bytes = model.page_bytes(page_size)
    num_pages = _units_in(budget_bytes, page_bytes, f"one page of {page_size} tokens of {model.name}")
    policy = make(
        num_pages,
        page_size,
        model.token_bytes,
        watermark=watermark,
        host_pages=int(host_ratio * num_pages),
        free_order=free_order,
    )
    return _checked(policy, granted, target)


_CLASSES: Mapping[PolicyKind, Callable[..., Policy]] = {
    PolicyKind.RESERVED: Reserved,
    PolicyKind.PAGED: PagePool,
    PolicyKind.PREFIX: PrefixPool,
}


def _class_of(target: str) -> Callable[..., Policy]:
    module, _, name = target.rpartition(".")
    try:
        found: Callable[..., Policy] = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"policy.target={target} must be package.module.Class ({error})") from error
    return found


def _checked(policy: Policy, kind: PolicyKind, target: str) -> Policy:
    if policy.kind is not kind:
        raise ValueError(f"policy.kind={kind.value} must be {policy.kind.value}, the kind of {target}")
    return policy


def _units_in(budget_bytes: int, unit_bytes: int, unit: str) -> int:
    if budget_bytes < unit_bytes:
        raise ValueError(f"memory_budget={budget_bytes} bytes must be at least {unit_bytes}, the bytes of {unit}")
    return budget_bytes // unit_bytes


def _names_of(kind: PolicyKind) -> str:
    return " or ".join(f"policy={name}" for name, found in POLICY_KINDS.items() if found is kind)


def is_paged(policy: Policy) -> TypeGuard[PagePool]:
    """Return whether the policy takes memory in pages."""
    return policy.kind.has_pages


def is_reserved(policy: Policy) -> TypeGuard[Reserved]:
    """Return whether the policy reserves one region per sequence."""
    return policy.kind is PolicyKind.RESERVED


def finds_prefixes(policy: Policy) -> TypeGuard[PrefixPool]:
    """Return whether the policy finds pages of known prefixes again."""
    return policy.kind is PolicyKind.PREFIX


def require_pages(policy: Policy, implementation: str) -> PagePool:
    """Return the policy as a page pool.

    Raises:
        Unsupported: the policy has no pages. The message names the implementation and the policies it requires.
    """
    if not is_paged(policy):
        raise Unsupported(f"{implementation} requires policy=paged or policy=prefix (got a {policy.kind.value} policy)")
    return policy


def require_regions(policy: Policy, implementation: str) -> Reserved:
    """Return the policy as a reservation.

    Raises:
        Unsupported: the policy reserves no regions. The message names the implementation and the policies it requires.
    """
    if not is_reserved(policy):
        raise Unsupported(
            f"{implementation} requires {_names_of(PolicyKind.RESERVED)} (got policy={policy.kind.value})"
        )
    return policy
