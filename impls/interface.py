"""What a memory policy and a KV cache promise: the contract that every implementation keeps.

A *policy* does the bookkeeping (who owns which slots) without a tensor in sight; a *KV cache* is a
policy plus storage plus attention. A *slot* is a row of the storage seen as
``[num_slots, num_kv_heads, head_dim]``; for a paged cache slot ``s`` is token ``s % page_size`` of
page ``s // page_size``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor


class Admission(Enum):
    """Answer to "may this sequence enter?"."""

    NOW = "now"
    LATER = "later"  # not while others hold their memory
    NEVER = "never"  # not even into an empty pool


class PolicyKind(Enum):
    """What a policy gives to a sequence."""

    RESERVED = "reserved"  # one contiguous region, taken whole at admission
    PAGED = "paged"  # pages, taken as the sequence grows
    PREFIX = "prefix"  # pages, and those of known prefixes are found again

    @property
    def has_pages(self) -> bool:
        """Whether memory is taken in pages."""
        return self is not PolicyKind.RESERVED


POLICY_KINDS: Mapping[str, PolicyKind] = {
    "reserved_max": PolicyKind.RESERVED,
    "reserved_pow2": PolicyKind.RESERVED,
    "reserved_oracle": PolicyKind.RESERVED,
    "paged": PolicyKind.PAGED,
    "prefix": PolicyKind.PREFIX,
}
"""The registered policies by name."""

ARENAS = ("first_fit", "buddy")
"""How a reserved policy finds a region: over exact sizes, or by the buddy allocator of the paper's baselines."""


class Unsupported(Exception):
    """An implementation cannot do this case here; the message says why in one sentence."""


class PoolExhausted(RuntimeError):
    """An ``admit`` or ``append`` needs more free memory than there is; nothing was changed."""


class PageCopy(NamedTuple):
    """A page copy that copy-on-write asks the owner of the storage to make."""

    source: int
    target: int


@dataclass(frozen=True, kw_only=True)
class CacheUsage:
    """Where a policy's pool stands at one instant, over all layers of the model.

    The six parts sum to the pool (PagedAttention paper, section 3, made computable; the exact
    definitions are in ``docs/measuring.md``). Other fields are not part of the sum.
    """

    live_bytes: int
    reserved_bytes: int
    internal_fragmentation_bytes: int
    external_fragmentation_bytes: int
    cached_bytes: int
    free_bytes: int
    shared_saved_bytes: int = 0
    largest_free_ratio: float = 1.0

    @property
    def pool_bytes(self) -> int:
        """The whole pool: the sum of the six parts."""
        return (
            self.live_bytes
            + self.reserved_bytes
            + self.internal_fragmentation_bytes
            + self.external_fragmentation_bytes
            + self.cached_bytes
            + self.free_bytes
        )


class Policy(Protocol):
    """Who owns which slots. Pure bookkeeping: no torch, exact counters, no surprises.

    Every method either does all of its work or raises and changes nothing.
    """

    @property
    def kind(self) -> PolicyKind:
        """What the policy gives to a sequence."""

    @property
    def pool_bytes(self) -> int:
        """Bytes that the policy manages, over all layers."""

    @property
    def num_seqs(self) -> int:
        """Sequences that hold memory now."""

    @property
    def counters(self) -> Mapping[str, int]:
        """Exact event counts since construction, by name."""

    def can_admit(self, num_tokens: int, final_len: int | None = None) -> Admission:
        """Whether a sequence of ``num_tokens`` tokens may enter now, later or never.

        Args:
            num_tokens: tokens that need a slot at once (the prompt).
            final_len: prompt plus output. Only the policies that *are* an estimate of it
                (pow2, oracle) may let it decide; for all others it is for accounting only.
        """

    def admit(self, seq_id: int, num_tokens: int, final_len: int | None = None) -> None:
        """Take slots for the first ``num_tokens`` tokens of a new sequence.

        Raises:
            ValueError: the sequence is there already, or a length is not positive.
            PoolExhausted: ``can_admit`` would not have answered NOW.
        """

    def can_append(self, seq_id: int, num_tokens: int = 1) -> bool:
        """Whether ``append`` would succeed."""

    def append(self, seq_id: int, num_tokens: int = 1) -> Sequence[PageCopy]:
        """Take slots for the sequence's next tokens; returns the page copies to make first.

        Raises:
            KeyError: no such sequence.
            PoolExhausted: no free memory; the caller must free or preempt.
        """

    def free(self, seq_id: int) -> None:
        """Give back all that the sequence holds.

        Raises:
            KeyError: no such sequence (freed twice, say).
        """

    def seq_len(self, seq_id: int) -> int:
        """Tokens of the sequence that have a slot."""

    def slots(self, seq_id: int, start: int, stop: int) -> list[int]:
        """Cache slots of tokens ``start .. stop - 1`` of one sequence.

        Raises:
            IndexError: the range reaches past the sequence's last token.
        """

    def usage(self, head_tokens: int | None = None, head_final_len: int | None = None) -> CacheUsage:
        """The split of the pool at this instant.

        Args:
            head_tokens: tokens of the request at the queue's head (or of a probe request), with
                which external fragmentation is defined; ``None``: a sequence of one token.
            head_final_len: that request's final length, where the policy reserves by it.
        """


class Batch(Protocol):
    """Host metadata of one decode step, copied to the device by ``KVCache.prepare``."""

    @property
    def slot_mapping(self) -> Tensor:
        """int64 ``[num_seqs]``: the slot of each sequence's newest token."""

    @property
    def seq_lens(self) -> Tensor:
        """int32 ``[num_seqs]``: tokens per sequence, the newest included."""

    @property
    def metadata_bytes(self) -> int:
        """Device bytes that these tensors take."""


@runtime_checkable
class KVCache(Protocol):
    """One interchangeable implementation: a policy, storage and attention.

    Constructed as ``cls(model, policy, device=..., num_layers=..., options=...)``: ``num_layers``
    is how many layers get storage, ``options`` is the mapping ``impl.options`` of its YAML.

    Raises:
        Unsupported: from the constructor or any method, when the case cannot be done here.
    """

    policy: Policy

    @property
    def tensors(self) -> Sequence[Tensor]:
        """Every storage tensor: K of each layer, then V of each layer."""

    @property
    def storage_bytes(self) -> int:
        """Bytes that the K and V tensors really take."""

    def write(self, layer: int, slot_mapping: Tensor, keys: Tensor, values: Tensor) -> None:
        """Store K and V of some tokens.

        Args:
            layer: which of the allocated layers.
            slot_mapping: int64 ``[num_tokens]`` on the device; -1 skips the token.
            keys: ``[num_tokens, num_kv_heads, head_dim]``.
            values: as ``keys``.
        """

    def prepare(self, seq_ids: Sequence[int]) -> Batch:
        """Build the metadata of one decode step on the host and copy it to the device."""

    def tune(self, query: Tensor, batch: Batch) -> None:
        """Choose among equivalent ways to compute this batch, once, before anything is timed."""

    def decode(self, layer: int, query: Tensor, batch: Batch) -> Tensor:
        """Attention of one new token per sequence over all of its cached tokens.

        Args:
            layer: which of the allocated layers.
            query: ``[num_seqs, num_query_heads, head_dim]``, one row per sequence of ``batch``.
            batch: what ``prepare`` returned.

        Returns:
            ``[num_seqs, num_query_heads, head_dim]``; softmax(q kᵀ / √head_dim) v.
        """

    def details(self) -> Mapping[str, str | int | float | None]:
        """Facts for the row about the last ``tune``: ``sdpa_backend``, ``bytes_read``, and its own."""


@runtime_checkable
class QuantisedKVCache(KVCache, Protocol):
    """A cache of a model with a ``kv_dtype``: K and V are stored in units of a scale per KV head."""

    def set_scales(self, layer: int, k_scales: Tensor, v_scales: Tensor) -> None:
        """Set one layer's scales, before anything is written there; they are 1 until then.

        Args:
            layer: which of the allocated layers.
            k_scales: float32 ``[num_kv_heads]``, the unit of each head's K.
            v_scales: as ``k_scales``, of V.
        """


@runtime_checkable
class ExtendedKVCache(KVCache, Protocol):
    """A cache whose attention has options that the model's shape does not name.

    They hold for ``decode`` and for ``prefill``. An option that is not set costs nothing.
    """

    def set_sinks(self, layer: int, sinks: Tensor | None) -> None:
        """Set one layer's attention sinks: a logit per query head that joins the softmax without a value.

        Args:
            layer: which of the allocated layers.
            sinks: ``[num_query_heads]``, natural logits; ``None`` removes them.

        Raises:
            ValueError: the shape is another one, or a logit is not finite.
        """

    def set_alibi(self, slopes: Tensor | None) -> None:
        """Set ALiBi: ``slope * (key position - query position)`` is added to each score, after the soft cap.

        Args:
            slopes: ``[num_query_heads]``, for all layers; ``None`` removes them.

        Raises:
            ValueError: the shape is another one, or a slope is not finite.
        """

    def decode_with_lse(self, layer: int, query: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Decode, and return the log-sum-exp of the scores, with which attention over parts can be merged.

        Returns:
            What ``decode`` returns, and float32 ``[num_seqs, num_query_heads]``: the natural logarithm
            of the softmax denominator, sinks included; -inf for a sequence without tokens.
        """

    def prepare_cascade(self, seq_ids: Sequence[int], shared_tokens: int) -> Batch:
        """Build the metadata of a decode step over sequences that share the pages of their first tokens.

        ``decode`` then reads the shared pages once for the whole batch, not once per sequence.

        Args:
            seq_ids: the batch.
            shared_tokens: tokens that all sequences share, a multiple of the page size.

        Raises:
            ValueError: ``shared_tokens`` is out of range, or a page of them is not shared.
            Unsupported: the cache has no pages, or the model has a window.
        """

    def prepare_tree(self, seq_ids: Sequence[int], trees: Sequence[Tensor]) -> PrefillBatch:
        """Build the metadata of a step that verifies trees of drafted tokens (speculative decoding).

        The drafted tokens are the newest tokens of each sequence. Each sees all tokens before them,
        and of the drafted ones those that its row of the tree names.

        Args:
            seq_ids: the batch.
            trees: per sequence bool ``[num_queries, num_queries]``; true on the diagonal, false above it.

        Raises:
            ValueError: there is not one tree per sequence, or a tree has another form.
            Unsupported: the model has a window, or ALiBi is set: a tree's tokens have no single position.
        """


class PrefillBatch(Protocol):
    """Host metadata of one prefill step, copied to the device by ``PrefillKVCache.prepare_prefill``."""

    @property
    def slot_mapping(self) -> Tensor:
        """int64 ``[num_queries]``: the slot of each query's token, one sequence after another."""

    @property
    def metadata_bytes(self) -> int:
        """Device bytes that the metadata takes."""


@runtime_checkable
class PrefillKVCache(KVCache, Protocol):
    """A cache that also computes prompts, whole or in chunks appended to what it holds."""

    def prepare_prefill(self, seq_ids: Sequence[int], num_queries: Sequence[int]) -> PrefillBatch:
        """Build the metadata of one prefill step.

        Args:
            seq_ids: the batch.
            num_queries: of each sequence, how many of its newest tokens ask.

        Raises:
            ValueError: there is not one number per sequence, from 1 to its length.
        """

    def tune_prefill(self, query: Tensor, batch: PrefillBatch) -> None:
        """Choose among equivalent ways to compute such a step, once; ``details`` speaks of it from then on."""

    def prefill(self, layer: int, query: Tensor, batch: PrefillBatch) -> Tensor:
        """Causal attention of each sequence's newest tokens; their K and V are in the cache already.

        Args:
            layer: which of the allocated layers.
            query: ``[num_queries, num_query_heads, head_dim]``, one sequence after another.
            batch: what ``prepare_prefill`` returned.

        Returns:
            As ``query``; the last query of a sequence sees all of its tokens, each before it one less.
        """


@runtime_checkable
class MovingKVCache(KVCache, Protocol):
    """A paged cache that makes the page copies that its policy asks for, in all layers.

    ``details`` says how, as ``page_moves``. A move may return before its copies are made; what is done later on
    the device finds them made.
    """

    def copy_pages(self, copies: Sequence[PageCopy]) -> None:
        """Copy pages within the pool: what ``append`` to a shared page asks for (copy-on-write)."""

    def swap_out(self, copies: Sequence[PageCopy]) -> None:
        """Copy pages of the pool to the host's."""

    def swap_in(self, copies: Sequence[PageCopy]) -> None:
        """Copy pages of the host's pool into the pool."""
