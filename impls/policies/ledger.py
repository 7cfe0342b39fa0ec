"""What all policies share: sequences, their lengths, and the checks on a caller's input."""

from __future__ import annotations


class Clock:
    """A number that lengths can be counted from; moving it makes all who stand on it grow at once."""

    __slots__ = ("now",)

    def __init__(self) -> None:
        self.now = 0


class Sequence:
    """One sequence that holds memory.

    Attributes:
        clock: what its length is counted from; stands still outside of lockstep decoding.
        offset: its length less ``clock.now``, in tokens.
        final_len: its length when it ends, in tokens; ``None`` where nobody knows.
    """

    __slots__ = ("clock", "final_len", "offset")

    def __init__(self, clock: Clock, num_tokens: int, final_len: int | None) -> None:
        self.clock = clock
        self.offset = num_tokens - clock.now
        self.final_len = final_len

    @property
    def num_tokens(self) -> int:
        """Its length now."""
        return self.offset + self.clock.now

    def unused_of(self, held_slots: int) -> int:
        """Of ``held_slots`` slots, those beyond the last token that it will ever have."""
        num_tokens = self.offset + self.clock.now
        final_len = self.final_len
        return max(held_slots - (num_tokens if final_len is None or final_len < num_tokens else final_len), 0)


def check_lengths(num_tokens: int, final_len: int | None) -> None:
    """Check what ``admit`` and ``can_admit`` are given.

    Raises:
        ValueError: a length is not positive, or the final one is below the first.
    """
    if num_tokens < 1:
        raise ValueError(f"num_tokens={num_tokens} must be at least 1")
    if final_len is not None and final_len < num_tokens:
        raise ValueError(f"final_len={final_len} must be at least num_tokens={num_tokens}")


def check_at_least(least: int, **values: int) -> None:
    """Check constructor arguments.

    Raises:
        ValueError: one is below ``least``; names it.
    """
    for name, value in values.items():
        if value < least:
            raise ValueError(f"{name}={value} must be at least {least}")
