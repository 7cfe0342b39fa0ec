"""K and V of every layer as rows of slots: the storage of the implementations in torch. Checks of their options."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from impls.interface import Unsupported
from impls.spec import ModelSpec

_Default = TypeVar("_Default", int, None)


def check_options(options: Mapping[str, object], allowed: Collection[str]) -> None:
    """Check the names of the options.

    Raises:
        ValueError: a key of ``options`` is not allowed. The message names it and the allowed keys.
    """
    for name in options:
        if name not in allowed:
            raise ValueError(f"impl.options.{name} is not known. Allowed: {', '.join(allowed) or 'none'}")


def positive_option(options: Mapping[str, object], name: str, default: _Default) -> int | _Default:
    """Return an option that must be a positive integer, or the default.

    Raises:
        ValueError: the option has another value.
    """
    value = options.get(name)
    if value is None:
        return default
    if not isinstance(value, int) or value < 1:
        raise ValueError(f"impl.options.{name}={value} must be an integer of at least 1")
    return value


def choice_option(options: Mapping[str, object], name: str, allowed: Sequence[str]) -> str:
    """Return an option that must be one of ``allowed``. The default is the first of them.

    Raises:
        ValueError: the option has another value.
    """
    value = options.get(name, allowed[0])
    if value not in allowed:
        raise ValueError(f"impl.options.{name}={value} must be one of {', '.join(allowed)}")
    return str(value)


def flag_option(options: Mapping[str, object], name: str, default: bool) -> bool:
    """Return an option that must be true or false, or the default.

    Raises:
        ValueError: the option has another value.
    """
    value = options.get(name, default)
    if not isinstance(value, bool):
        raise ValueError(f"impl.options.{name}={value} must be true or false")
    return value


def check_plain(model: ModelSpec, name: str) -> None:
    """Check that the attention of a model is plain: softmax(q kᵀ / √head_dim) v over unquantised K and V.

    Raises:
        Unsupported: the model has a quantised cache, a sliding window or a soft cap.
    """
    for field in ("kv_dtype", "sliding_window", "soft_cap"):
        if getattr(model, field) is not None:
            raise Unsupported(f"{name} supports only model.{field}=null (got {getattr(model, field)})")


class SlotStorage:
    """K and V of some layers, one row per slot.

    Each tensor has one row more than the policy has slots. A ``slot_mapping`` of -1 indexes that last row, so that a
    skipped token needs neither a branch nor a wait for the device.

    Attributes:
        keys: per layer ``[num_slots, num_kv_heads, head_dim]``, initially zero.
        values: same shape as ``keys``.
    """

    def __init__(self, model: ModelSpec, num_slots: int, num_layers: int, device: torch.device) -> None:
        shape = (num_slots + 1, model.num_kv_heads, model.head_dim)
        dtype: torch.dtype = getattr(torch, model.dtype)
        self._rows = [torch.zeros(shape, dtype=dtype, device=device) for _ in range(2 * num_layers)]
        self.keys: Sequence[Tensor] = [rows[:num_slots] for rows in self._rows[:num_layers]]
        self.values: Sequence[Tensor] = [rows[:num_slots] for rows in self._rows[num_layers:]]

    @property
    def nbytes(self) -> int:
        """Bytes of the tensors, including the rows of skipped tokens."""
        return sum(rows.nbytes for rows in self._rows)

    def write(self, layer: int, slot_mapping: Tensor, keys: Tensor, values: Tensor) -> None:
        """Store K and V of some tokens (see ``KVCache.write``)."""
        self._rows[layer][slot_mapping] = keys
        self._rows[layer + len(self.keys)][slot_mapping] = values
