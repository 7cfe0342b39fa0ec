"""The part that all policies share: sequences, their lengths, and the split of the pool as running sums."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from impls.interface import CacheUsage


class Clock:
    """A counter that lengths are relative to. Moving it lengthens all its sequences at once."""

    __slots__ = ("now",)

    def __init__(self) -> None:
        self.now = 0


@dataclass(slots=True, eq=False)
class SequenceState:
    """One sequence that holds memory.

    Attributes:
        clock: the clock that the length is relative to. It stays at 0 outside of lockstep decoding.
        offset: the length minus ``clock.now``, in tokens.
        final_len: the length at the end, in tokens. 0 if unknown, which counts as reached.
    """

    clock: Clock
    offset: int
    final_len: int

    @property
    def num_tokens(self) -> int:
        """Current length."""
        return self.offset + self.clock.now

    def unused_of(self, held_slots: int) -> int:
        """Return how many of ``held_slots`` slots are beyond the last token that the sequence will ever have."""
        last = self.offset + self.clock.now
        if self.final_len > last:
            last = self.final_len
        return held_slots - last if held_slots > last else 0


StateT = TypeVar("StateT", bound=SequenceState)


class SlotSplit(NamedTuple):
    """The six parts of a pool at one instant, in slots. Their sum is the pool.

    The parts are those of ``CacheUsage``, which holds them in bytes.
    """

    live: int
    reserved: int
    internal: int
    external: int
    cached: int
    free: int


class Ledger(Generic[StateT]):
    """Sequences and running sums over them, so that every part of the pool is known at once.

    ``_join``, ``_leave`` and ``_tick`` are for ``Lockstep`` and ``Family`` in this package.

    Args:
        num_slots: slots of the pool, one per token.
        token_bytes: bytes of one token's K and V over all layers.
        counters: names of the events to count.
    """

    def __init__(self, num_slots: int, token_bytes: int, counters: tuple[str, ...]) -> None:
        self._num_slots = num_slots
        self._token_bytes = token_bytes
        self._states: dict[int, StateT] = {}
        self._stopped_clock = Clock()
        self._tokens = 0  # sum of the lengths of all sequences
        self._saved = 0  # of these, tokens that share a slot with a token counted before
        self._unused = 0  # slots held that no owner will ever fill
        self._count = dict.fromkeys(counters, 0)

    @property
    def pool_bytes(self) -> int:
        """Bytes of the whole pool, over all layers."""
        return self._num_slots * self._token_bytes

    @property
    def num_seqs(self) -> int:
        """Sequences that hold memory now."""
        return len(self._states)

    @property
    def counters(self) -> Mapping[str, int]:
        """Exact event counts since construction, by name."""
        return dict(self._count)

    @property
    def saved_tokens(self) -> int:
        """Slots that sharing saves: tokens that share a slot with a token counted before."""
        return self._saved

    @property
    def largest_free_ratio(self) -> float:
        """The largest piece that one sequence could take, divided by all unheld memory. Always 1 for pages."""
        return 1.0

    def seq_len(self, seq_id: int) -> int:
        """Return the number of tokens of the sequence that have a slot.

        Raises:
            KeyError: the sequence holds no memory.
        """
        return self._state(seq_id).num_tokens

    def split(self, head_tokens: int | None = None, head_final_len: int | None = None) -> SlotSplit:
        """Return the parts of the pool now, in slots. The arguments are those of ``usage``."""
        raise NotImplementedError

    def usage(self, head_tokens: int | None = None, head_final_len: int | None = None) -> CacheUsage:
        """Return the split of the pool now, in bytes.

        Args:
            head_tokens: tokens of the request at the head of the queue. ``None`` means a sequence of one token.
            head_final_len: final length of that request, for policies that reserve by it.

        Raises:
            ValueError: as ``can_admit``.
        """
        split = self.split(head_tokens, head_final_len)
        token_bytes = self._token_bytes
        return CacheUsage(
            live_bytes=split.live * token_bytes,
            reserved_bytes=split.reserved * token_bytes,
            internal_fragmentation_bytes=split.internal * token_bytes,
            external_fragmentation_bytes=split.external * token_bytes,
            cached_bytes=split.cached * token_bytes,
            free_bytes=split.free * token_bytes,
            shared_saved_bytes=self._saved * token_bytes,
            largest_free_ratio=self.largest_free_ratio,
        )

    def _join(self, seq_id: int, clock: Clock) -> StateT:
        """Make the length of a sequence relative to ``clock`` until ``_leave``.

        Raises:
            KeyError: the sequence holds no memory.
            ValueError: the sequence already decodes in lockstep, its final length is unknown or reached, or its
                memory cannot grow that far by itself.
        """
        state = self._changeable_state(seq_id)
        self._check_joins(seq_id, state)
        state.offset -= clock.now
        state.clock = clock
        return state

    def _leave(self, seq_id: int) -> None:
        """Undo ``_join``. The sequence keeps the length that it has reached."""
        state = self._states[seq_id]
        state.offset += state.clock.now
        state.clock = self._stopped_clock

    def _tick(self, num_seqs: int, unused_slots: int) -> None:
        """Account for one more token of each of ``num_seqs`` sequences, after their clock has moved.

        Args:
            num_seqs: sequences on that clock.
            unused_slots: slots, of the memory taken for these tokens, that will never be filled.
        """
        self._tokens += num_seqs
        self._unused += unused_slots
        self._count["appends"] += num_seqs

    def _state(self, seq_id: int) -> StateT:
        try:
            return self._states[seq_id]
        except KeyError:
            raise KeyError(f"sequence {seq_id} holds no memory: never admitted, or freed already") from None

    def _changeable_state(self, seq_id: int) -> StateT:
        """Return the state of a sequence that does not decode in lockstep, and may be changed by itself."""
        state = self._states.get(seq_id) or self._state(seq_id)
        if state.clock is not self._stopped_clock:
            raise ValueError(f"seq_id={seq_id} decodes in lockstep and must leave it first")
        return state

    def _check_joins(self, seq_id: int, state: StateT) -> None:
        """Check that a sequence has tokens to append. Policies add their own conditions."""
        if state.final_len <= state.offset:
            raise ValueError(
                f"final_len={state.final_len} of sequence {seq_id} must be above its {state.offset} tokens"
            )

    def _check_new(self, seq_id: int) -> None:
        if seq_id in self._states:
            raise ValueError(f"seq_id={seq_id} holds memory already and must be freed first")


def check_lengths(num_tokens: int, final_len: int | None) -> None:
    """Check the lengths given to ``admit`` and ``can_admit``.

    Raises:
        ValueError: a length is not positive, or ``final_len`` is below ``num_tokens``.
    """
    if num_tokens < 1:
        raise ValueError(f"num_tokens={num_tokens} must be at least 1")
    if final_len is not None and final_len < num_tokens:
        raise ValueError(f"final_len={final_len} must be at least num_tokens={num_tokens}")


def check_range(state: SequenceState, start: int, stop: int) -> None:
    """Check the range of tokens given to ``slots``.

    Raises:
        IndexError: a token of the range is not within the sequence.
    """
    if not 0 <= start <= stop <= state.num_tokens:
        raise IndexError(f"tokens {start} .. {stop - 1} are not all within a sequence of {state.num_tokens}")


def check_at_least(minimum: int, **values: int) -> None:
    """Check arguments against a lower bound.

    Raises:
        ValueError: a value is below ``minimum``. The message names it.
    """
    for name, value in values.items():
        if value < minimum:
            raise ValueError(f"{name}={value} must be at least {minimum}")
