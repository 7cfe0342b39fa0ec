"""The shape of a model's KV cache, and the only place where its bytes are computed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

DTYPE_BYTES: Final = {"float32": 4, "float16": 2, "bfloat16": 2}
"""Bytes of one element, by dtype name."""
QUANTISED_BYTES: Final = {"float8_e4m3fn": 1}
"""Bytes of one element of a quantised K or V, by dtype name. There is also one float32 scale per KV head."""


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """The shape of a decoder-only transformer, as far as its KV cache depends on it.

    Attributes:
        name: name of the model in tables. Only the shape identifies it.
        num_layers: transformer layers, each with a KV cache of its own.
        num_query_heads: query heads per layer.
        num_kv_heads: key/value heads per layer, a divisor of ``num_query_heads``.
        head_dim: elements per head.
        dtype: element type of K, V and queries: ``float32``, ``float16`` or ``bfloat16``.
        max_seq_len: length of the longest possible sequence, prompt and output, in tokens.
        num_parameters: weights of the whole model, which a step reads. 0 if they are not needed.
        kv_dtype: element type of the stored K and V if it is not ``dtype``: ``float8_e4m3fn``.
        sliding_window: number of newest tokens that a query sees, including its own. All tokens if ``None``.
        soft_cap: scores become ``soft_cap * tanh(score / soft_cap)``. Unchanged if ``None``.

    Raises:
        ValueError: a field is out of range. The message names it.
    """

    name: str
    num_layers: int
    num_query_heads: int
    num_kv_heads: int
    head_dim: int
    dtype: str
    max_seq_len: int
    num_parameters: int = 0
    kv_dtype: str | None = None
    sliding_window: int | None = None
    soft_cap: float | None = None

    def __post_init__(self) -> None:
        for field in ("num_layers", "num_query_heads", "num_kv_heads", "head_dim", "max_seq_len"):
            if getattr(self, field) < 1:
                raise ValueError(f"model.{field}={getattr(self, field)} must be at least 1")
        if self.num_parameters < 0:
            raise ValueError(f"model.num_parameters={self.num_parameters} must be at least 0")
        if self.dtype not in DTYPE_BYTES:
            raise ValueError(f"model.dtype={self.dtype!r} must be one of {', '.join(DTYPE_BYTES)}")
        if self.kv_dtype is not None and self.kv_dtype not in QUANTISED_BYTES:
            raise ValueError(f"model.kv_dtype={self.kv_dtype!r} must be null or {', '.join(QUANTISED_BYTES)}")
        if self.sliding_window is not None and self.sliding_window < 1:
            raise ValueError(f"model.sliding_window={self.sliding_window} must be null or at least 1")
        if self.soft_cap is not None and not 0 < self.soft_cap < math.inf:
            raise ValueError(f"model.soft_cap={self.soft_cap} must be null or above 0 and finite")
        if self.num_query_heads % self.num_kv_heads:
            raise ValueError(
                f"model.num_query_heads={self.num_query_heads} must be a multiple of "
                f"model.num_kv_heads={self.num_kv_heads}"
            )

    @property
    def group_size(self) -> int:
        """Query heads that share one KV head."""
        return self.num_query_heads // self.num_kv_heads

    @property
    def attention(self) -> str:
        """The part of the shape that a kernel depends on, without the element type.

        >>> ModelSpec(name="gemma", num_layers=1, num_query_heads=8, num_kv_heads=4, head_dim=256,
        ...           dtype="float16", max_seq_len=64, sliding_window=32, soft_cap=50.0).attention
        '8/4 x 256, window 32, cap 50'
        """
        parts = [f"{self.num_query_heads}/{self.num_kv_heads} x {self.head_dim}"]
        parts += [] if self.kv_dtype is None else [self.kv_dtype]
        parts += [] if self.sliding_window is None else [f"window {self.sliding_window}"]
        parts += [] if self.soft_cap is None else [f"cap {self.soft_cap:g}"]
        return ", ".join(parts)

    @property
    def element_bytes(self) -> int:
        """Bytes of one element of a query."""
        return DTYPE_BYTES[self.dtype]

    @property
    def stored_dtype(self) -> str:
        """Element type of the stored K and V."""
        return self.kv_dtype or self.dtype

    @property
    def stored_bytes(self) -> int:
        """Bytes of one element of K or V in the cache."""
        return {**DTYPE_BYTES, **QUANTISED_BYTES}[self.stored_dtype]

    @property
    def token_bytes_per_layer(self) -> int:
        """Bytes of one token's K and V in one layer, without the scales, whose number does not depend on tokens."""
        keys_and_values = 2
        return keys_and_values * self.num_kv_heads * self.head_dim * self.stored_bytes

    @property
    def token_bytes(self) -> int:
        """Bytes of one token's K and V over all layers (PagedAttention paper, section 3).

        >>> ModelSpec(name="opt-13b", num_layers=40, num_query_heads=40, num_kv_heads=40,
        ...           head_dim=128, dtype="float16", max_seq_len=2048).token_bytes
        819200
        """
        return self.token_bytes_per_layer * self.num_layers

    def page_bytes(self, page_size: int) -> int:
        """Return the bytes of one page of ``page_size`` tokens over all layers."""
        return page_size * self.token_bytes


def ceil_div(numerator: int, denominator: int) -> int:
    """Return the smallest integer not below ``numerator / denominator``.

    >>> ceil_div(17, 16)
    2
    """
    return -(-numerator // denominator)
