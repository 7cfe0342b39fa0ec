"""The interfaces that memory policies and KV caches implement.

A *policy* assigns slots to sequences, without tensors. A *KV cache* is a policy, storage and attention. A *slot* is a
row of the storage viewed as ``[num_slots, num_kv_heads, head_dim]``. In a paged cache slot ``s`` is token
``s % page_size`` of page ``s // page_size``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor


class Admission(Enum):
    """When a sequence can be admitted."""

    NOW = "now"
    LATER = "later"  # after other sequences have released memory
    NEVER = "never"  # not even if the pool were empty


class PolicyKind(Enum):
    """Kind of memory that a policy assigns to a sequence."""

    RESERVED = "reserved"  # one contiguous region, taken at admission
    PAGED = "paged"  # pages, taken as the sequence grows
    PREFIX = "prefix"  # pages, and those of known prefixes are found again

    @property
    def has_pages(self) -> bool:
        """Whether the policy assigns pages."""
        return self is not PolicyKind.RESERVED


POLICY_KINDS: Mapping[str, PolicyKind] = {
    "reserved_max": PolicyKind.RESERVED,
    "reserved_pow2": PolicyKind.RESERVED,
    "reserved_oracle": PolicyKind.RESERVED,
    "paged": PolicyKind.PAGED,
    "prefix": PolicyKind.PREFIX,
}
"""Kind of each registered policy, by name."""

ARENAS = ("first_fit", "buddy")
"""How a reserved policy finds a region: first fit over exact sizes, or the buddy allocator of the paper's baselines."""


class Unsupported(Exception):
    """An implementation cannot do this case here. The message gives the reason in one sentence."""


class PoolExhausted(RuntimeError):
    """An operation of a policy needs more memory than is free. Nothing is changed."""


class PageCopy(NamedTuple):
    """A page copy that a policy requires from the owner of the storage."""

    source: int
    target: int


@dataclass(frozen=True, kw_only=True)
class CacheUsage:
    """How the memory of a policy's pool is used at one instant, over all layers of the model.

    The sum of the six parts is the pool (PagedAttention paper, section 3). ``docs/measuring.md`` defines each part
    exactly. The other fields are not part of the sum.
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
        """Bytes of the whole pool: the sum of the six parts."""
        return (
            self.live_bytes
            + self.reserved_bytes
            + self.internal_fragmentation_bytes
            + self.external_fragmentation_bytes
            + self.cached_bytes
            + self.free_bytes
        )


class Policy(Protocol):
    """Assigns slots to sequences, without torch and with exact counters.

    Every method either does all of its work, or raises and changes nothing.
    """

    @property
    def kind(self) -> PolicyKind:
        """Kind of memory that the policy assigns."""

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
        """Return whether a sequence can be admitted now, later or never.

        Args:
            num_tokens: tokens that need a slot at once (the prompt).
            final_len: length of prompt and output. It decides only in policies that are an estimate of it
                (pow2, oracle). All others use it for accounting only.
        """

    def admit(self, seq_id: int, num_tokens: int, final_len: int | None = None) -> None:
        """Take slots for the first ``num_tokens`` tokens of a new sequence.

        Raises:
            ValueError: the sequence already holds memory, or a length is out of range.
            PoolExhausted: ``can_admit`` does not return NOW.
        """

    def can_append(self, seq_id: int, num_tokens: int = 1) -> bool:
        """Return whether ``append`` would succeed."""

    def append(self, seq_id: int, num_tokens: int = 1) -> Sequence[PageCopy]:
        """Take slots for the next tokens of a sequence. Return the page copies to make before they are written.

        Raises:
            KeyError: the sequence holds no memory.
            PoolExhausted: too little memory is free. The caller must free or preempt a sequence.
        """

    def free(self, seq_id: int) -> None:
        """Release all memory of a sequence.

        Raises:
            KeyError: the sequence holds no memory, for example because it was freed already.
        """

    def seq_len(self, seq_id: int) -> int:
        """Return the number of tokens of the sequence that have a slot."""

    def slots(self, seq_id: int, start: int, stop: int) -> list[int]:
        """Return the cache slots of tokens ``start .. stop - 1`` of one sequence.

        Raises:
            IndexError: the range extends past the last token of the sequence.
        """

    def usage(self, head_tokens: int | None = None, head_final_len: int | None = None) -> CacheUsage:
        """Return the split of the pool at this instant.

        Args:
            head_tokens: tokens of the request at the head of the queue (or of a probe request), which defines
                external fragmentation. ``None`` means a sequence of one token.
            head_final_len: final length of that request, for policies that reserve by it.
        """


class Batch(Protocol):
    """Metadata of one decode step, which ``KVCache.prepare`` builds on the host and copies to the device."""

    @property
    def slot_mapping(self) -> Tensor:
        """int64 ``[num_seqs]``: the slot of the newest token of each sequence."""

    @property
    def seq_lens(self) -> Tensor:
        """int32 ``[num_seqs]``: tokens per sequence, including the newest."""

    @property
    def metadata_bytes(self) -> int:
        """Device bytes of the metadata."""


@runtime_checkable
class KVCache(Protocol):
    """One interchangeable implementation: a policy, storage and attention.

    The constructor is called as ``cls(model, policy, device=..., num_layers=..., options=...)``. ``num_layers`` is
    the number of layers that get storage. ``options`` is the mapping ``impl.options`` of the YAML file.

    Raises:
        Unsupported: the implementation cannot do this case here. The constructor and every method may raise it.
    """

    policy: Policy

    @property
    def tensors(self) -> Sequence[Tensor]:
        """All storage tensors: K of each layer, then V of each layer."""

    @property
    def storage_bytes(self) -> int:
        """Bytes of the K and V tensors as allocated."""

    def write(self, layer: int, slot_mapping: Tensor, keys: Tensor, values: Tensor) -> None:
        """Store K and V of some tokens.

        Args:
            layer: index of an allocated layer.
            slot_mapping: int64 ``[num_tokens]`` on the device. -1 skips the token.
            keys: ``[num_tokens, num_kv_heads, head_dim]``.
            values: same shape as ``keys``.
        """

    def prepare(self, seq_ids: Sequence[int]) -> Batch:
        """Build the metadata of one decode step on the host and copy it to the device."""

    def tune(self, query: Tensor, batch: Batch) -> None:
        """Choose among equivalent ways to compute this batch. Called once, before anything is timed."""

    def decode(self, layer: int, query: Tensor, batch: Batch) -> Tensor:
        """Return the attention of one new token per sequence over all of its cached tokens.

        Args:
            layer: index of an allocated layer.
            query: ``[num_seqs, num_query_heads, head_dim]``, one row per sequence of ``batch``.
            batch: result of ``prepare``.

        Returns:
            softmax(q kᵀ / √head_dim) v, ``[num_seqs, num_query_heads, head_dim]``.
        """

    def details(self) -> Mapping[str, str | int | float | None]:
        """Return facts about the last ``tune`` for the row: ``sdpa_backend``, ``bytes_read``, and others of its own."""


@runtime_checkable
class QuantisedKVCache(KVCache, Protocol):
    """A cache for models with a ``kv_dtype``. K and V are stored divided by one scale per KV head."""

    def set_scales(self, layer: int, k_scales: Tensor, v_scales: Tensor) -> None:
        """Set the scales of one layer, before anything is written there. The initial scales are 1.

        Args:
            layer: index of an allocated layer.
            k_scales: float32 ``[num_kv_heads]``, the scale of K of each head.
            v_scales: float32 ``[num_kv_heads]``, the scale of V of each head.
        """


@runtime_checkable
class ExtendedKVCache(KVCache, Protocol):
    """A cache whose attention has options that are not part of the model's shape.

    They apply to ``decode`` and to ``prefill``. An option that is not set has no cost.
    """

    def set_sinks(self, layer: int, sinks: Tensor | None) -> None:
        """Set the attention sinks of one layer: a logit per query head that is part of the softmax and has no value.

        Args:
            layer: index of an allocated layer.
            sinks: ``[num_query_heads]``, natural logits. ``None`` removes them.

        Raises:
            ValueError: the shape is wrong, or a logit is not finite.
        """

    def set_alibi(self, slopes: Tensor | None) -> None:
        """Set ALiBi: ``slope * (key position - query position)`` is added to each score, after the soft cap.

        Args:
            slopes: ``[num_query_heads]``, for all layers. ``None`` removes them.

        Raises:
            ValueError: the shape is wrong, or a slope is not finite.
        """

    def decode_with_lse(self, layer: int, query: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Decode, and also return the log-sum-exp of the scores, which merging of partial results requires.

        Returns:
            The result of ``decode``, and float32 ``[num_seqs, num_query_heads]``: the natural logarithm of the
            softmax denominator, including sinks. It is -inf for a sequence without tokens.
        """

    def prepare_cascade(self, seq_ids: Sequence[int], shared_tokens: int) -> Batch:
        """Build the metadata of a decode step over sequences that share the pages of their first tokens.

        ``decode`` then reads the shared pages once for the whole batch, not once per sequence.

        Args:
            seq_ids: the batch.
            shared_tokens: number of tokens that all sequences share, a multiple of the page size.

        Raises:
            ValueError: ``shared_tokens`` is out of range, or one of their pages is not shared.
            Unsupported: the cache has no pages, or the model has a window.
        """

    def prepare_tree(self, seq_ids: Sequence[int], trees: Sequence[Tensor]) -> PrefillBatch:
        """Build the metadata of a step that verifies trees of drafted tokens (speculative decoding).

        The drafted tokens are the newest tokens of each sequence. Each of them sees all tokens before the drafted
        ones, and those drafted tokens that are true in its row of the tree.

        Args:
            seq_ids: the batch.
            trees: per sequence bool ``[num_queries, num_queries]``, true on the diagonal and false above it.

        Raises:
            ValueError: there is not one tree per sequence, or a tree is not of this form.
            Unsupported: the model has a window, or ALiBi is set. The tokens of a tree have no single position.
        """


class PrefillBatch(Protocol):
    """Metadata of one prefill step, which ``PrefillKVCache.prepare_prefill`` builds and copies to the device."""

    @property
    def slot_mapping(self) -> Tensor:
        """int64 ``[num_queries]``: the slot of each query token, one sequence after another."""

    @property
    def metadata_bytes(self) -> int:
        """Device bytes of the metadata."""


@runtime_checkable
class PrefillKVCache(KVCache, Protocol):
    """A cache that also computes prompts, at once or in chunks that are appended to the cached tokens."""

    def prepare_prefill(self, seq_ids: Sequence[int], num_queries: Sequence[int]) -> PrefillBatch:
        """Build the metadata of one prefill step.

        Args:
            seq_ids: the batch.
            num_queries: number of query tokens of each sequence. They are its newest tokens.

        Raises:
            ValueError: ``num_queries`` does not have one number per sequence, from 1 to the length of the sequence.
        """

    def tune_prefill(self, query: Tensor, batch: PrefillBatch) -> None:
        """Choose among equivalent ways to compute such a step. Called once. ``details`` then describes this choice."""

    def prefill(self, layer: int, query: Tensor, batch: PrefillBatch) -> Tensor:
        """Return the causal attention of the newest tokens of each sequence, whose K and V are in the cache already.

        Args:
            layer: index of an allocated layer.
            query: ``[num_queries, num_query_heads, head_dim]``, one sequence after another.
            batch: result of ``prepare_prefill``.

        Returns:
            Same shape as ``query``. The last query of a sequence sees all of its tokens, the one before it one
            token less, and so on.
        """


@runtime_checkable
class MovingKVCache(KVCache, Protocol):
    """A paged cache that makes the page copies of its policy, in all layers.

    ``details`` has an entry ``page_moves`` for the way of copying. A method may return before its copies are made.
    Later work on the device sees the copied pages.
    """

    def copy_pages(self, copies: Sequence[PageCopy]) -> None:
        """Copy pages within the pool, as ``append`` to a shared page requires (copy-on-write)."""

    def swap_out(self, copies: Sequence[PageCopy]) -> None:
        """Copy pages of the pool to pages of the host."""

    def swap_in(self, copies: Sequence[PageCopy]) -> None:
        """Copy pages of the host to pages of the pool."""
