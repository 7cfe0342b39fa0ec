"""Group ``scenario``: parameters of decode, prefill and swap, which fill a cache and compute with it."""

from __future__ import annotations

import typing
from dataclasses import dataclass

from bench.config.checks import at_least
from bench.config.root import AnyScenario, Config
from impls.spec import ModelSpec


@dataclass(frozen=True, kw_only=True)
class CacheScenario(AnyScenario):
    """A cache with sequences in mid-decode. ``page_layout`` decides the order of their pages."""

    tensors: bool = True
    layers_allocated: int = 1  # layers that get storage; pool_bytes counts the other layers, too
    aged_turnovers: float = 3.0  # page_layout=aged: how often the whole pool was allocated and freed before
    shared_prefix_tokens: int = 256  # page_layout=shared_prefix: tokens that all sequences share

    def __post_init__(self) -> None:
        at_least(self, "scenario.", layers_allocated=1, aged_turnovers=0, shared_prefix_tokens=1)

    @property
    def computes_reference(self) -> bool:
        """Whether a float32 reference is computed from the K and V of all sequences."""
        return True

    def layers_of(self, model: ModelSpec) -> int:
        """Return the number of layers that get storage."""
        return self.layers_allocated

    def without_effect(self, config: Config) -> tuple[str, ...]:
        """Return the parameters of other page layouts."""
        layout_of = {"aged_turnovers": "aged", "shared_prefix_tokens": "shared_prefix"}
        return tuple(name for name, layout in layout_of.items() if layout != config.page_layout)

    def check(self, config: Config) -> None:
        """Check that the model has enough layers."""
        if self.layers_allocated > config.model.num_layers:
            raise ValueError(
                f"scenario.layers_allocated={self.layers_allocated} must be at most "
                f"model.num_layers={config.model.num_layers}"
            )


@dataclass(frozen=True, kw_only=True)
class DecodeScenario(CacheScenario):
    """Fill a cache to mid-decode, check one decode step, then measure its time and its memory."""

    name: typing.Literal["decode"] = "decode"


@dataclass(frozen=True, kw_only=True)
class PrefillScenario(CacheScenario):
    """Compute one prefill step, of whole prompts or of a chunk of each. Check it, then measure time and memory."""

    name: typing.Literal["prefill"] = "prefill"
    chunk_tokens: int = 0  # maximum number of query tokens of a prompt in the step; 0: all that are not cached
    cached_tokens: int = 0  # tokens of each prompt that are cached before the step; its last token never is
    linear_layers: bool = False  # whether the matrix products of the layer are timed, too

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, "scenario.", chunk_tokens=0, cached_tokens=0)

    @property
    def uses_weights(self) -> bool:
        """Whether the number of weights has an effect: they determine the size of the matrix products."""
        return self.linear_layers

    def seq_len(self, prompt_len: int) -> int:
        """Return how many tokens of a prompt the cache holds after the step, query tokens included.

        >>> [PrefillScenario(chunk_tokens=4, cached_tokens=6).seq_len(tokens) for tokens in (20, 8, 5)]
        [10, 8, 5]
        """
        cached = min(self.cached_tokens, prompt_len - 1)
        return min(cached + self.chunk_tokens, prompt_len) if self.chunk_tokens else prompt_len

    def num_queries(self, seq_len: int) -> int:
        """Return the number of query tokens in a sequence of ``seq_len`` tokens.

        >>> [PrefillScenario(chunk_tokens=4, cached_tokens=6).num_queries(tokens) for tokens in (10, 8, 5)]
        [4, 2, 1]
        """
        return seq_len - min(self.cached_tokens, seq_len - 1)

    def check(self, config: Config) -> None:
        """Check that shared tokens are cached, and that the model has weights if matrix products are timed."""
        super().check(config)
        if config.page_layout == "shared_prefix" and self.cached_tokens < self.shared_prefix_tokens:
            raise ValueError(
                f"scenario.cached_tokens={self.cached_tokens} must be at least scenario.shared_prefix_tokens="
                f"{self.shared_prefix_tokens} with page_layout=shared_prefix: shared tokens are cached before the step"
            )
        if self.linear_layers and not config.model.num_parameters:
            raise ValueError("model.num_parameters=0 must be at least 1 with scenario.linear_layers=true")


@dataclass(frozen=True, kw_only=True)
class SwapScenario(CacheScenario):
    """Move the pages of sequences in mid-decode to the host and back. Check them bit for bit, then time the moves."""

    name: typing.Literal["swap"] = "swap"

    @property
    def idle_model_fields(self) -> tuple[str, ...]:
        """Pages are moved, and nothing is computed."""
        return ("num_query_heads", "sliding_window", "soft_cap")
