"""Checks of single values, each with its sentence."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable

MANY = 40
"""Options that fit into one sentence."""


def at_least(obj: object, path: str, **least: float) -> None:
    """Check lower bounds of an object's fields.

    Raises:
        ValueError: a field is below its bound; names field, value and bound.
    """
    for name, bound in least.items():
        value = getattr(obj, name)
        if value is not None and value < bound:
            raise ValueError(f"{path}{name}={value} must be at least {bound}")


def each_within(path: str, values: Iterable[float], *, least: float) -> None:
    """Check every item of a list: finite and not below a bound.

    Raises:
        ValueError: an item is not; names the field, the item's place and value, and the bound.
    """
    for place, value in enumerate(values):
        if not (math.isfinite(value) and value >= least):
            raise ValueError(f"{path}[{place}]={value} must be at least {least} and finite")


def one_of(value: str, allowed: Iterable[str], path: str) -> None:
    """Check a choice.

    Raises:
        ValueError: names field, value, the options (those like it, of more than ``MANY``) and the nearest one.
    """
    allowed = list(allowed)
    if value not in allowed:
        near = difflib.get_close_matches(value, allowed, n=5)
        hint = f" (did you mean {near[0]}?)" if near else ""
        options = ", ".join(allowed if len(allowed) <= MANY else [*near, f"… ({len(allowed)} are known)"])
        raise ValueError(f"{path}={value} is not known{hint}; choose one of {options}")
