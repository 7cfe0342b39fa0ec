"""Contiguous memory: one region per sequence, reserved at admission (the baselines of the paper)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from impls.interface import ARENAS, Admission, PageCopy, PolicyKind, PoolExhausted
from impls.policies.arenas import BuddyArena, FirstFitArena
from impls.policies.ledger import Ledger, SequenceState, SlotSplit, check_at_least, check_lengths, check_range

ESTIMATES: Final = ("max", "pow2", "oracle")
"""How a reservation is sized (see ``Reserved``)."""

RESERVED_COUNTERS: Final = ("admissions", "appends", "frees", "slots_taken", "slots_freed")


@dataclass(slots=True, eq=False)
class ReservedState(SequenceState):
    """A sequence and its region."""

    first_slot: int
    num_slots: int
    requested_slots: int


class Reserved(Ledger[ReservedState]):
    """Contiguous reservations (PagedAttention paper, sections 3 and 6.1: Orca Max, Pow2, Oracle).

    Args:
        num_slots: slots in the pool, one per token.
        max_seq_len: the longest sequence of the model, in tokens.
        token_bytes: bytes of one token's K and V over all layers.
        estimate: ``max`` reserves ``max_seq_len`` slots, and ``oracle`` the true final length. ``pow2`` reserves the
            prompt and the next power of two of the true output, but at most ``max_seq_len``.
        arena: ``first_fit`` over exact sizes, or the ``buddy`` allocator of the paper's baselines.

    Attributes:
        num_slots: slots in the pool.

    Raises:
        ValueError: an argument is out of range. The message names it.
    """

    def __init__(
        self,
        num_slots: int,
        max_seq_len: int,
        token_bytes: int,
        *,
        estimate: str = "max",
        arena: str = "first_fit",
    ) -> None:
        check_at_least(1, num_slots=num_slots, max_seq_len=max_seq_len, token_bytes=token_bytes)
        if estimate not in ESTIMATES:
            raise ValueError(f"estimate={estimate!r} must be one of {', '.join(ESTIMATES)}")
        if arena not in ARENAS:
            raise ValueError(f"arena={arena!r} must be one of {', '.join(ARENAS)}")
        super().__init__(num_slots, token_bytes, RESERVED_COUNTERS)
        self.num_slots = num_slots
        self._max_seq_len = max_seq_len
        self._estimate = estimate
        self._arena = FirstFitArena(num_slots) if arena == "first_fit" else BuddyArena(num_slots, max_seq_len)
        self._held = 0
        self._max_held = 0
        self._rounding = 0

    @property
    def kind(self) -> PolicyKind:
        """``RESERVED``: one region per sequence."""
        return PolicyKind.RESERVED

    @property
    def counters(self) -> Mapping[str, int]:
        """Exact event counts since construction, by name. ``peak_slots`` is the most slots held at once."""
        return {**self._count, "peak_slots": self._max_held}

    @property
    def largest_free_slots(self) -> int:
        """Slots of the largest free region."""
        return self._arena.largest_free

    @property
    def largest_free_ratio(self) -> float:
        """The largest free region divided by all unheld slots. 1 if all slots are held."""
        unheld = self.num_slots - self._held
        return self._arena.largest_free / unheld if unheld else 1.0

    @property
    def rounding_slots(self) -> int:
        """Slots held beyond the reservations because the sizes of buddies are powers of two.

        They are part of internal fragmentation. Figure 2 of the paper counts them with "external and others".
        """
        return self._rounding

    def can_admit(self, num_tokens: int, final_len: int | None = None) -> Admission:
        """Return NOW if a region is free, NEVER if not even an empty pool has such a region.

        Raises:
            ValueError: a length is out of range, or the estimate requires ``final_len`` and it is ``None``.
        """
        requested = self._reservation(num_tokens, final_len)
        if requested is None or requested > self._arena.largest_ever:
            return Admission.NEVER
        return Admission.NOW if requested <= self._arena.largest_free else Admission.LATER

    def admit(self, seq_id: int, num_tokens: int, final_len: int | None = None) -> None:
        """Reserve a region for the whole life of a new sequence.

        Raises:
            ValueError: the sequence already holds memory, or a length is out of range or missing.
            PoolExhausted: ``can_admit`` does not return NOW.
        """
        self._check_new(seq_id)
        requested = self._reservation(num_tokens, final_len)
        if requested is None or requested > self._arena.largest_free:
            slots = f"more than {self._max_seq_len}" if requested is None else requested
            free = self._arena.largest_free
            raise PoolExhausted(
                f"sequence {seq_id} needs a region of {slots} slots, and the largest free region has {free}"
            )
        state = ReservedState(self._stopped_clock, num_tokens, final_len or 0, *self._arena.take(requested), requested)
        self._states[seq_id] = state
        self._tokens += num_tokens
        self._unused += state.unused_of(state.num_slots)
        self._held += state.num_slots
        self._rounding += state.num_slots - requested
        self._max_held = max(self._max_held, self._held)
        self._count["admissions"] += 1
        self._count["slots_taken"] += state.num_slots

    def can_append(self, seq_id: int, num_tokens: int = 1) -> bool:
        """Return whether the region of a sequence has room for more tokens.

        Raises:
            KeyError: the sequence holds no memory.
            ValueError: ``num_tokens`` is not positive.
        """
        state = self._changeable_state(seq_id)
        check_at_least(1, num_tokens=num_tokens)
        return state.num_tokens + num_tokens <= state.num_slots

    def append(self, seq_id: int, num_tokens: int = 1) -> Sequence[PageCopy]:
        """Use the next slots of the region. There are no pages to copy.

        Raises:
            KeyError: the sequence holds no memory.
            ValueError: ``num_tokens`` is not positive.
            PoolExhausted: the region is full. It cannot grow.
        """
        if not self.can_append(seq_id, num_tokens):
            raise PoolExhausted(f"the region of sequence {seq_id} has no room for {num_tokens} more tokens")
        state = self._states[seq_id]
        self._unused -= state.unused_of(state.num_slots)
        state.offset += num_tokens
        self._tokens += num_tokens
        self._unused += state.unused_of(state.num_slots)
        self._count["appends"] += num_tokens
        return ()

    def free(self, seq_id: int) -> None:
        """Release the region of a sequence.

        Raises:
            KeyError: the sequence holds no memory, for example because it was freed already.
        """
        state = self._changeable_state(seq_id)
        del self._states[seq_id]
        self._tokens -= state.num_tokens
        self._unused -= state.unused_of(state.num_slots)
        self._held -= state.num_slots
        self._rounding -= state.num_slots - state.requested_slots
        self._arena.give(state.first_slot, state.num_slots)
        self._count["frees"] += 1
        self._count["slots_freed"] += state.num_slots

    def region(self, seq_id: int) -> tuple[int, int]:
        """Return the first slot and the number of slots of the region of a sequence.

        Raises:
            KeyError: the sequence holds no memory.
        """
        state = self._state(seq_id)
        return state.first_slot, state.num_slots

    def slots(self, seq_id: int, start: int, stop: int) -> list[int]:
        """Return the cache slots of tokens ``start .. stop - 1`` of one sequence.

        Raises:
            KeyError: the sequence holds no memory.
            IndexError: the range extends past the last token of the sequence.
        """
        state = self._state(seq_id)
        check_range(state, start, stop)
        return list(range(state.first_slot + start, state.first_slot + stop))

    def split(self, head_tokens: int | None = None, head_final_len: int | None = None) -> SlotSplit:
        """Return the parts of the pool now, in slots.

        External fragmentation is the free memory that remains after placing copies of the region of the head until
        no more fit. As all copies have one size, the order of placing does not matter.
        """
        requested = self._reservation(1, 1) if head_tokens is None else self._reservation(head_tokens, head_final_len)
        unheld = self.num_slots - self._held
        usable = 0 if requested is None else self._arena.usable_slots(requested)
        reserved = self._held - self._tokens - self._unused
        return SlotSplit(self._tokens, reserved, self._unused, unheld - usable, 0, usable)

    def _check_joins(self, seq_id: int, state: ReservedState) -> None:
        super()._check_joins(seq_id, state)
        if state.final_len > state.num_slots:
            raise ValueError(f"final_len={state.final_len} of sequence {seq_id} is above its {state.num_slots} slots")

    def _reservation(self, num_tokens: int, final_len: int | None) -> int | None:
        """Return the number of slots to reserve, or ``None`` if the sequence is too long for the model."""
        check_lengths(num_tokens, final_len)
        if self._estimate == "max":
            return self._max_seq_len if num_tokens <= self._max_seq_len else None
        if final_len is None:
            raise ValueError(f"final_len=None must be an integer: estimate={self._estimate!r} reserves by it")
        if final_len > self._max_seq_len:
            return None
        if self._estimate == "oracle":
            return final_len
        return min(num_tokens + next_pow2(final_len - num_tokens), self._max_seq_len)


def next_pow2(number: int) -> int:
    """Return the smallest power of two not below ``number``, or 0 for 0.

    >>> [next_pow2(n) for n in (0, 1, 3, 4, 338)]
    [0, 1, 4, 4, 512]
    """
    return 1 << (number - 1).bit_length() if number else 0
