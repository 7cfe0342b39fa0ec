"""Contiguous memory: one region per sequence, reserved whole at admission (the paper's baselines)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from impls.interface import ARENAS, Admission, PageCopy, PolicyKind, PoolExhausted
from impls.policies.arenas import BuddyArena, FirstFitArena
from impls.policies.ledger import Ledger, SequenceState, SlotSplit, check_at_least, check_lengths, check_range

ESTIMATES: Final = ("max", "pow2", "oracle")
"""How a reservation is sized; see ``Reserved``."""


RESERVED_COUNTERS: Final = ("admissions", "appends", "frees", "slots_taken", "slots_freed")


@dataclass(slots=True, eq=False)
class ReservedState(SequenceState):
    """A sequence and its region."""

    first_slot: int
    num_slots: int
    asked_slots: int


class Reserved(Ledger[ReservedState]):
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
        self.max_seq_len = max_seq_len
        self._estimate = estimate
        self._arena = FirstFitArena(num_slots) if arena == "first_fit" else BuddyArena(num_slots, max_seq_len)
        self._held = 0
        self._most_held = 0
        self._rounding = 0

    @property
    def kind(self) -> PolicyKind:
        """A region per sequence."""
        return PolicyKind.RESERVED

    @property
    def counters(self) -> Mapping[str, int]:
        """Exact event counts since construction, by name; ``peak_slots`` is the most held at once."""
        return {**self._count, "peak_slots": self._most_held}

    @property
    def largest_free_slots(self) -> int:
        """Slots of the largest free region."""
        return self._arena.largest_free

    @property
    def largest_free_ratio(self) -> float:
        """The largest free region by all that nobody holds; 1 where all is held."""
        unheld = self.num_slots - self._held
        return self._arena.largest_free / unheld if unheld else 1.0

    @property
    def rounding_slots(self) -> int:
        """Slots held beyond the reservations because buddies come in powers of two.

        They are part of internal fragmentation; the paper's Figure 2 counts them with "external and others".
        """
        return self._rounding

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
        self._check_new(seq_id)
        wanted = self._reservation(num_tokens, final_len)
        if wanted is None or wanted > self._arena.largest_free:
            slots = f"more than {self.max_seq_len}" if wanted is None else wanted
            free = self._arena.largest_free
            raise PoolExhausted(f"sequence {seq_id} needs a region of {slots} slots; the largest free has {free}")
        state = ReservedState(self._still, num_tokens, final_len or 0, *self._arena.take(wanted), wanted)
        self._states[seq_id] = state
        self._tokens += num_tokens
        self._unused += state.unused_of(state.num_slots)
        self._held += state.num_slots
        self._rounding += state.num_slots - wanted
        self._most_held = max(self._most_held, self._held)
        self._count["admissions"] += 1
        self._count["slots_taken"] += state.num_slots

    def can_append(self, seq_id: int, num_tokens: int = 1) -> bool:
        """Whether the sequence's region has room.

        Raises:
            KeyError: no such sequence.
            ValueError: ``num_tokens`` is not positive.
        """
        state = self._own(seq_id)
        check_at_least(1, num_tokens=num_tokens)
        return state.num_tokens + num_tokens <= state.num_slots

    def append(self, seq_id: int, num_tokens: int = 1) -> Sequence[PageCopy]:
        """Use the next slots of the region; there is never a page to copy.

        Raises:
            KeyError: no such sequence.
            ValueError: ``num_tokens`` is not positive.
            PoolExhausted: the region is full; it cannot grow.
        """
        if not self.can_append(seq_id, num_tokens):
            raise PoolExhausted(f"the region of sequence {seq_id} has no room for {num_tokens} tokens more")
        state = self._states[seq_id]
        self._unused -= state.unused_of(state.num_slots)
        state.offset += num_tokens
        self._tokens += num_tokens
        self._unused += state.unused_of(state.num_slots)
        self._count["appends"] += num_tokens
        return ()

    def free(self, seq_id: int) -> None:
        """Give back the region.

        Raises:
            KeyError: no such sequence (freed twice, say).
        """
        state = self._own(seq_id)
        del self._states[seq_id]
        self._tokens -= state.num_tokens
        self._unused -= state.unused_of(state.num_slots)
        self._held -= state.num_slots
        self._rounding -= state.num_slots - state.asked_slots
        self._arena.give(state.first_slot, state.num_slots)
        self._count["frees"] += 1
        self._count["slots_freed"] += state.num_slots

    def region(self, seq_id: int) -> tuple[int, int]:
        """First slot and number of slots of a sequence's region.

        Raises:
            KeyError: no such sequence.
        """
        state = self._state(seq_id)
        return state.first_slot, state.num_slots

    def slots(self, seq_id: int, start: int, stop: int) -> list[int]:
        """Cache slots of tokens ``start .. stop - 1`` of one sequence.

        Raises:
            KeyError: no such sequence.
            IndexError: the range reaches past the sequence's last token.
        """
        state = self._state(seq_id)
        check_range(state, start, stop)
        return list(range(state.first_slot + start, state.first_slot + stop))

    def split(self, head_tokens: int | None = None, head_final_len: int | None = None) -> SlotSplit:
        """The parts of the pool now, in slots.

        External fragmentation is what remains of the free memory after placing copies of the head's
        region until no more fits; with regions of one size the order of placing does not matter.
        """
        wanted = self._reservation(1, 1) if head_tokens is None else self._reservation(head_tokens, head_final_len)
        unheld = self.num_slots - self._held
        usable = 0 if wanted is None else self._arena.usable_slots(wanted)
        reserved = self._held - self._tokens - self._unused
        return SlotSplit(self._tokens, reserved, self._unused, unheld - usable, 0, usable)

    def _check_joins(self, seq_id: int, state: ReservedState) -> None:
        super()._check_joins(seq_id, state)
        if state.final_len > state.num_slots:
            raise ValueError(f"final_len={state.final_len} of sequence {seq_id} is above its {state.num_slots} slots")

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
