"""Contiguous memory: one region per sequence, reserved whole at admission (the paper's baselines)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

from impls.interface import Admission, CacheUsage, PageCopy, PoolExhausted
from impls.policies.arenas import BuddyArena, FirstFitArena
from impls.policies.ledger import Clock, Sequence, check_at_least, check_lengths

ESTIMATES: Final = ("max", "pow2", "oracle")
"""How a reservation is sized; see ``Reserved``."""
ARENAS: Final = ("first_fit", "buddy")
"""How a region is found; see ``Reserved``."""


class ReservedSequence(Sequence):
    """A sequence and its region."""

    __slots__ = ("first_slot", "num_slots")

    def __init__(self, clock: Clock, num_tokens: int, final_len: int | None, first_slot: int, num_slots: int) -> None:
        super().__init__(clock, num_tokens, final_len)
        self.first_slot = first_slot
        self.num_slots = num_slots


class Reserved:
    """Contiguous reservations (PagedAttention paper, sections 3 and 6.1: Orca Max, Pow2, Oracle).

    Args:
        num_slots: slots in the pool, one per token.
        max_seq_len: the longest sequence of the model, in tokens.
        token_bytes: bytes of one token's K and V over all layers.
        estimate: ``max`` reserves ``max_seq_len`` slots, ``oracle`` the true final length, and
            ``pow2`` the prompt and the next power of two of the true output, at most ``max_seq_len``.
        arena: ``first_fit`` over exact sizes, or the ``buddy`` allocator of the paper's baselines.

    Raises:
        ValueError: an argument is out of range; names it.
    """

    def __init__(
        self,
        num_slots: int,
        max_seq_len: int,
        token_bytes: int,
        *,
        estimate: Literal["max", "pow2", "oracle"] = "max",
        arena: Literal["first_fit", "buddy"] = "first_fit",
    ) -> None:
        check_at_least(1, num_slots=num_slots, max_seq_len=max_seq_len, token_bytes=token_bytes)
        if estimate not in ESTIMATES:
            raise ValueError(f"estimate={estimate!r} must be one of {', '.join(ESTIMATES)}")
        if arena not in ARENAS:
            raise ValueError(f"arena={arena!r} must be one of {', '.join(ARENAS)}")
        self.num_slots = num_slots
        self.max_seq_len = max_seq_len
        self._token_bytes = token_bytes
        self._estimate = estimate
        self._arena = FirstFitArena(num_slots) if arena == "first_fit" else BuddyArena(num_slots, max_seq_len)
        self._sequences: dict[int, ReservedSequence] = {}
        self._still = Clock()
        self._tokens = 0
        self._unused_slots = 0
        self._count = dict.fromkeys(("admissions", "appends", "frees"), 0)

    @property
    def pool_bytes(self) -> int:
        """Bytes of the whole pool, over all layers."""
        return self.num_slots * self._token_bytes

    @property
    def num_seqs(self) -> int:
        """Sequences that hold a region now."""
        return len(self._sequences)

    @property
    def counters(self) -> Mapping[str, int]:
        """Exact event counts since construction, by name."""
        return dict(self._count)

    def can_admit(self, num_tokens: int, final_len: int | None = None) -> Admission:
        """NOW if a region is free, NEVER if not even in an empty pool.

        Raises:
            ValueError: a length is out of range, or ``final_len`` is missing though the estimate needs it.
        """
        wanted = self._reservation(num_tokens, final_len)
        if wanted is None or wanted > self._arena.largest_ever:
            return Admission.NEVER
        return Admission.NOW if wanted <= self._arena.largest_free else Admission.LATER

    def admit(self, seq_id: int, num_tokens: int, final_len: int | None = None) -> None:
        """Reserve a region for the whole life of a new sequence.

        Raises:
            ValueError: the sequence is there already, or a length is out of range or missing.
            PoolExhausted: ``can_admit`` would not have answered NOW.
        """
        if seq_id in self._sequences:
            raise ValueError(f"seq_id={seq_id} holds a region already")
        wanted = self._reservation(num_tokens, final_len)
        if wanted is None or wanted > self._arena.largest_free:
            raise PoolExhausted(f"no region is free for sequence {seq_id} of {num_tokens} tokens")
        first_slot, num_slots = self._arena.take(wanted)
        sequence = ReservedSequence(self._still, num_tokens, final_len, first_slot, num_slots)
        self._sequences[seq_id] = sequence
        self._tokens += num_tokens
        self._unused_slots += sequence.unused_of(num_slots)
        self._count["admissions"] += 1

    def can_append(self, seq_id: int, num_tokens: int = 1) -> bool:
        """Whether the sequence's region still has room."""
        sequence = self._sequence(seq_id)
        check_at_least(1, num_tokens=num_tokens)
        return sequence.num_tokens + num_tokens <= sequence.num_slots

    def append(self, seq_id: int, num_tokens: int = 1) -> list[PageCopy]:
        """Use the next slots of the region; there is never a page to copy.

        Raises:
            KeyError: no such sequence.
            ValueError: ``num_tokens`` is not positive.
            PoolExhausted: the region is full; it cannot grow.
        """
        if not self.can_append(seq_id, num_tokens):
            raise PoolExhausted(f"the region of sequence {seq_id} has no room for {num_tokens} more tokens")
        sequence = self._sequences[seq_id]
        self._unused_slots -= sequence.unused_of(sequence.num_slots)
        sequence.offset += num_tokens
        self._tokens += num_tokens
        self._unused_slots += sequence.unused_of(sequence.num_slots)
        self._count["appends"] += num_tokens
        return []

    def free(self, seq_id: int) -> None:
        """Give back the region.

        Raises:
            KeyError: no such sequence (freed twice, say).
        """
        sequence = self._sequence(seq_id)
        del self._sequences[seq_id]
        self._tokens -= sequence.num_tokens
        self._unused_slots -= sequence.unused_of(sequence.num_slots)
        self._arena.give(sequence.first_slot, sequence.num_slots)
        self._count["frees"] += 1

    def seq_len(self, seq_id: int) -> int:
        """Tokens of the sequence that have a slot."""
        return self._sequence(seq_id).num_tokens

    def region(self, seq_id: int) -> tuple[int, int]:
        """First slot and number of slots of a sequence's region."""
        sequence = self._sequence(seq_id)
        return sequence.first_slot, sequence.num_slots

    def slots(self, seq_id: int, start: int, stop: int) -> list[int]:
        """Cache slots of tokens ``start .. stop - 1`` of one sequence.

        Raises:
            KeyError: no such sequence.
            IndexError: the range reaches past the sequence's last token.
        """
        sequence = self._sequence(seq_id)
        if not 0 <= start <= stop <= sequence.num_tokens:
            raise IndexError(f"tokens {start}..{stop} of sequence {seq_id}, which has {sequence.num_tokens}")
        return list(range(sequence.first_slot + start, sequence.first_slot + stop))

    def usage(self, head_tokens: int | None = None, head_final_len: int | None = None) -> CacheUsage:
        """The split of the pool now.

        Args:
            head_tokens: tokens of the request at the queue's head; ``None``: a sequence of one token.
            head_final_len: its final length, needed by ``pow2`` and ``oracle``.

        Raises:
            ValueError: as ``can_admit``.
        """
        wanted = self._reservation(1, 1) if head_tokens is None else self._reservation(head_tokens, head_final_len)
        free = self._arena.free_slots
        usable = 0 if wanted is None else self._arena.usable_slots(wanted)
        held = self.num_slots - free
        return CacheUsage(
            live_bytes=self._tokens * self._token_bytes,
            reserved_bytes=(held - self._tokens - self._unused_slots) * self._token_bytes,
            internal_fragmentation_bytes=self._unused_slots * self._token_bytes,
            external_fragmentation_bytes=(free - usable) * self._token_bytes,
            cached_bytes=0,
            free_bytes=usable * self._token_bytes,
            largest_free_ratio=self._arena.largest_free / free if free else 1.0,
        )

    def _sequence(self, seq_id: int) -> ReservedSequence:
        try:
            return self._sequences[seq_id]
        except KeyError:
            raise KeyError(f"sequence {seq_id} holds no region: never admitted, or freed already") from None

    def _reservation(self, num_tokens: int, final_len: int | None) -> int | None:
        """Slots to ask for, or ``None`` where the model cannot take the sequence at all."""
        check_lengths(num_tokens, final_len)
        if self._estimate == "max":
            return self.max_seq_len if num_tokens <= self.max_seq_len else None
        if final_len is None:
            raise ValueError(f"final_len=None must be given: estimate={self._estimate!r} reserves by it")
        if final_len > self.max_seq_len:
            return None
        if self._estimate == "oracle":
            return final_len
        return min(num_tokens + next_pow2(final_len - num_tokens), self.max_seq_len)


def next_pow2(number: int) -> int:
    """Smallest power of two not below ``number``; 0 for 0.

    >>> [next_pow2(n) for n in (0, 1, 3, 4, 338)]
    [0, 1, 4, 4, 512]
    """
    return 1 << (number - 1).bit_length() if number else 0
