"""Group ``scenario``: what is done with a cache, told apart by ``name``."""

from __future__ import annotations

import math
import typing
from dataclasses import dataclass

from bench.config.checks import at_least, each_within, one_of
from bench.config.whole import WholeConfig
from impls.spec import ModelSpec


@dataclass(frozen=True, kw_only=True)
class AnyScenario:
    """What every scenario says of itself in its YAML."""

    processes: tuple[str, ...] = ()  # "module:function" of each process of a point, in order
    tensors: bool = False
    ignores: tuple[str, ...] = ()  # root names without effect on it, null in its key

    @property
    def models_time(self) -> bool:
        """Whether its seconds come from the cost model, and so from the model's weights too."""
        return False

    @property
    def uses_weights(self) -> bool:
        """Whether the number of the model's weights has an effect."""
        return self.models_time

    @property
    def ignored_roots(self) -> tuple[str, ...]:
        """Root names without effect on it as it is set, null in its key."""
        return self.ignores

    def layers_of(self, model: ModelSpec) -> int:
        """Layers that get storage."""
        return 0

    def without_effect(self, config: WholeConfig) -> tuple[str, ...]:
        """Parameters of its own without effect on this point, left out of its key."""
        return ()

    def check(self, config: WholeConfig) -> None:
        """Check what only the whole configuration tells.

        Raises:
            ValueError: a field does not go with the rest.
        """


@dataclass(frozen=True, kw_only=True)
class CacheScenario(AnyScenario):
    """A cache that is filled to mid-decode, its pages laid out as ``page_layout`` says."""

    tensors: bool = True
    layers_allocated: int = 1  # layers that get storage; the rest exist in pool_bytes only
    aged_turnovers: float = 3.0  # page_layout=aged: times that the whole pool was taken and freed
    shared_prefix_tokens: int = 256  # page_layout=shared_prefix: tokens that all sequences share

    def __post_init__(self) -> None:
        at_least(self, "scenario.", layers_allocated=1, aged_turnovers=0, shared_prefix_tokens=1)

    def layers_of(self, model: ModelSpec) -> int:
        """Layers that get storage."""
        return self.layers_allocated

    def without_effect(self, config: WholeConfig) -> tuple[str, ...]:
        """What belongs to other page layouts."""
        layout_of = {"aged_turnovers": "aged", "shared_prefix_tokens": "shared_prefix"}
        return tuple(name for name, layout in layout_of.items() if layout != config.page_layout)

    def check(self, config: WholeConfig) -> None:
        """A model has only so many layers."""
        if self.layers_allocated > config.model.num_layers:
            raise ValueError(
                f"scenario.layers_allocated={self.layers_allocated} must be at most "
                f"model.num_layers={config.model.num_layers}"
            )


@dataclass(frozen=True, kw_only=True)
class DecodeScenario(CacheScenario):
    """Fill a cache to mid-decode, check one decode step, then time it and weigh it."""

    name: typing.Literal["decode"] = "decode"


@dataclass(frozen=True, kw_only=True)
class PrefillScenario(CacheScenario):
    """Let prompts ask, whole or a chunk of each, over K and V that are cached; check, time and weigh the step."""

    name: typing.Literal["prefill"] = "prefill"
    chunk_tokens: int = 0  # most tokens of a prompt that ask in the step; 0: all that are not cached
    cached_tokens: int = 0  # tokens of each prompt that are cached already, at most all but its last
    linear_layers: bool = False  # time the layer's matrix products, too

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, "scenario.", chunk_tokens=0, cached_tokens=0)

    @property
    def uses_weights(self) -> bool:
        """The matrix products are as large as the model's weights."""
        return self.linear_layers

    def seq_len(self, prompt_len: int) -> int:
        """Tokens of a prompt that are there in the step, those that ask included.

        >>> [PrefillScenario(chunk_tokens=4, cached_tokens=6).seq_len(tokens) for tokens in (20, 8, 5)]
        [10, 8, 5]
        """
        cached = min(self.cached_tokens, prompt_len - 1)
        return min(cached + self.chunk_tokens, prompt_len) if self.chunk_tokens else prompt_len

    def num_queries(self, seq_len: int) -> int:
        """How many of these tokens ask.

        >>> [PrefillScenario(chunk_tokens=4, cached_tokens=6).num_queries(tokens) for tokens in (10, 8, 5)]
        [4, 2, 1]
        """
        return seq_len - min(self.cached_tokens, seq_len - 1)

    def check(self, config: WholeConfig) -> None:
        """What is shared is not computed again, and matrix products need weights."""
        super().check(config)
        if config.page_layout == "shared_prefix" and self.cached_tokens < self.shared_prefix_tokens:
            raise ValueError(
                f"scenario.cached_tokens={self.cached_tokens} must be at least scenario.shared_prefix_tokens="
                f"{self.shared_prefix_tokens} with page_layout=shared_prefix: what is shared is cached already"
            )
        if self.linear_layers and not config.model.num_parameters:
            raise ValueError("model.num_parameters=0 must be at least 1 with scenario.linear_layers=true")


@dataclass(frozen=True, kw_only=True)
class SwapScenario(CacheScenario):
    """Move the pages of sequences in mid-decode to the host and back, check them bit for bit, then time it."""

    name: typing.Literal["swap"] = "swap"


MAX_LEGACY_SEED = 2**32 - 1
"""The largest seed of NumPy's legacy generator, which the notebook uses."""


@dataclass(frozen=True, kw_only=True)
class NotebookScenario(AnyScenario):
    """The notebook's five experiments; the fields have its names and its values."""

    name: typing.Literal["notebook"] = "notebook"
    num_sequences: int = 100
    max_seq_length: int = 1024  # its lengths are uniform in 10 .. max_seq_length
    hidden_dim: int = 64  # elements per token, which is also its unit of memory
    page_size: int = 16
    num_sequences_list: tuple[int, ...] = (10, 20, 50, 100, 200)
    page_sizes: tuple[int, ...] = (4, 8, 16, 32, 64, 128)
    memory_sizes: tuple[float, ...] = (1e6, 2e6, 5e6, 1e7, 2e7, 5e7)  # elements

    def __post_init__(self) -> None:
        at_least(self, "scenario.", num_sequences=0, max_seq_length=10, hidden_dim=1, page_size=1)
        each_within("scenario.num_sequences_list", self.num_sequences_list, least=0)
        each_within("scenario.page_sizes", self.page_sizes, least=1)
        each_within("scenario.memory_sizes", self.memory_sizes, least=0)

    def check(self, config: WholeConfig) -> None:
        """The legacy generator takes 32 bits of seed."""
        if config.seed > MAX_LEGACY_SEED:
            raise ValueError(f"seed={config.seed} must be at most {MAX_LEGACY_SEED} for scenario=notebook")


HELD_LENGTHS = ("final", "mid_decode")
QUEUES = ("saturated", "open")


@dataclass(frozen=True, kw_only=True)
class CapacityScenario(AnyScenario):
    """How many sequences fit, by admitting and growing them until the first refusal."""

    name: typing.Literal["capacity"] = "capacity"
    held: str = "final"  # how far each has grown: final, or mid_decode (caught at a random token)
    real: bool = False  # allocate and write all layers on the device, and reconcile the bytes

    def __post_init__(self) -> None:
        one_of(self.held, HELD_LENGTHS, "scenario.held")
        if self.tensors != self.real:
            raise ValueError(f"scenario.tensors={self.tensors} must equal scenario.real={self.real}; set the latter")

    def layers_of(self, model: ModelSpec) -> int:
        """All layers, if any."""
        return model.num_layers if self.real else 0


@dataclass(frozen=True, kw_only=True)
class ChurnScenario(AnyScenario):
    """Sequences come, grow and leave over time; bookkeeping only."""

    name: typing.Literal["churn"] = "churn"
    queue: str = "saturated"  # saturated: all wait from the start; open: they arrive over time
    rate: float = 0.05  # queue=open: requests that arrive per step, on average (Poisson)

    def __post_init__(self) -> None:
        one_of(self.queue, QUEUES, "scenario.queue")
        if not 0 < self.rate < math.inf:
            raise ValueError(f"scenario.rate={self.rate} must be above 0 and finite")

    def without_effect(self, config: WholeConfig) -> tuple[str, ...]:
        """Nobody arrives at a saturated queue."""
        return ("rate",) if self.queue == "saturated" else ()


@dataclass(frozen=True, kw_only=True)
class LengthsScenario(AnyScenario):
    """What a workload's lengths are like: their means and distributions. No cache."""

    name: typing.Literal["lengths"] = "lengths"


@dataclass(frozen=True, kw_only=True)
class PrefixCacheScenario(AnyScenario):
    """How many of a trace's pages a cache of prefixes has already seen, one request after the other."""

    name: typing.Literal["prefix_cache"] = "prefix_cache"
    cache_pages: int = 0  # of page_size tokens; 0: as many as the trace has

    def __post_init__(self) -> None:
        at_least(self, "scenario.", cache_pages=0)


Scenario = (
    DecodeScenario
    | PrefillScenario
    | SwapScenario
    | NotebookScenario
    | CapacityScenario
    | ChurnScenario
    | LengthsScenario
    | PrefixCacheScenario
)
