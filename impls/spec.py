"""Shapes of a model's KV cache, and the one place where its bytes are computed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

DTYPE_BYTES: Final = {"float32": 4, "float16": 2, "bfloat16": 2}
"""Bytes of one element, by dtype name."""


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """The shape of a decoder-only transformer, as far as its KV cache sees it.

    Attributes:
        name: what tables call it; the shape alone identifies it.
        num_layers: transformer layers, each with a KV cache of its own.
        num_query_heads: query heads per layer.
        num_kv_heads: key/value heads per layer; divides ``num_query_heads``.
        head_dim: elements per head.
        dtype: element type of K, V and queries: ``float32``, ``float16`` or ``bfloat16``.
        max_seq_len: the longest sequence that the model takes, prompt and output, in tokens.
        num_parameters: weights of the whole model, which a step reads; 0 where nobody asks.

    Raises:
        ValueError: a field is out of range; the sentence names it.
    """

    name: str
    num_layers: int
    num_query_heads: int
    num_kv_heads: int
    head_dim: int
    dtype: str
    max_seq_len: int
    num_parameters: int = 0

    def __post_init__(self) -> None:
        for field in ("num_layers", "num_query_heads", "num_kv_heads", "head_dim", "max_seq_len"):
            if getattr(self, field) < 1:
                raise ValueError(f"model.{field}={getattr(self, field)} must be at least 1")
        if self.num_parameters < 0:
            raise ValueError(f"model.num_parameters={self.num_parameters} must be at least 0")
        if self.dtype not in DTYPE_BYTES:
            raise ValueError(f"model.dtype={self.dtype!r} must be one of {', '.join(DTYPE_BYTES)}")
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
    def token_bytes_per_layer(self) -> int:
        """Bytes of one token's K and V in one layer."""
        keys_and_values = 2
        return keys_and_values * self.num_kv_heads * self.head_dim * DTYPE_BYTES[self.dtype]

    @property
    def token_bytes(self) -> int:
        """Bytes of one token's K and V over all layers (PagedAttention paper, section 3).

        >>> ModelSpec(name="opt-13b", num_layers=40, num_query_heads=40, num_kv_heads=40,
        ...           head_dim=128, dtype="float16", max_seq_len=2048).token_bytes
        819200
        """
        return self.token_bytes_per_layer * self.num_layers

    def page_bytes(self, page_size: int) -> int:
        """Bytes of one page of ``page_size`` tokens over all layers."""
        return page_size * self.token_bytes


def ceil_div(numerator: int, denominator: int) -> int:
    """Smallest integer not below ``numerator / denominator``.

    >>> ceil_div(17, 16)
    2
    """
    return -(-numerator // denominator)
