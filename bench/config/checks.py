"""Checks of single values. Each raises ``ValueError`` with one sentence."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable

MAX_LISTED = 40
"""A message lists at most this many options."""


def at_least(obj: object, path: str, **minimums: float) -> None:
    """Check lower bounds of an object's fields. A field that is ``None`` passes.

    Args:
        obj: holds the fields.
        path: prefix of the field names in the message, such as ``measure.``.
        minimums: smallest allowed value of each field.

    Raises:
        ValueError: a field is below its minimum. The message names field, value and minimum.
    """
    for name, minimum in minimums.items():
        value = getattr(obj, name)
        if value is not None and value < minimum:
            raise ValueError(f"{path}{name}={value} must be at least {minimum}")


def each_at_least(path: str, values: Iterable[float], minimum: float) -> None:
    """Check that every item of a list is finite and not below ``minimum``.

    Raises:
        ValueError: an item is out of range. The message names the field, the item's index and value, and the minimum.
    """
    for index, value in enumerate(values):
        if not (math.isfinite(value) and value >= minimum):
            raise ValueError(f"{path}[{index}]={value} must be at least {minimum} and finite")


def class_name(value: str, path: str) -> None:
    """Check that a text is the full name of a class.

    Raises:
        ValueError: it is not of the form ``package.module.Class``.
    """
    parts = value.split(".")
    if len(parts) < 2 or not all(part.isidentifier() for part in parts):
        raise ValueError(f"{path}={value} must be package.module.Class")


def one_of(value: str, allowed: Iterable[str], path: str) -> None:
    """Check that ``value`` is one of the allowed options.

    Raises:
        ValueError: it is not. The message names field, value, the most similar option and all options. If there are
            more than ``MAX_LISTED``, it lists only similar ones, if there are any.
    """
    allowed = list(allowed)
    if value not in allowed:
        near = difflib.get_close_matches(value, allowed, n=5)
        hint = f" (did you mean {near[0]}?)" if near else ""
        if len(allowed) > MAX_LISTED and not near:
            raise ValueError(f"{path}={value} is not known, and none of the {len(allowed)} known names is similar")
        options = ", ".join(allowed if len(allowed) <= MAX_LISTED else [*near, f"… ({len(allowed)} are known)"])
        raise ValueError(f"{path}={value} is not known{hint}. Choose one of {options}")
