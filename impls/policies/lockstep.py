"""Sequences that decode in lockstep: every step appends one token to each of them.

A replay of a trace makes millions of appends, nearly all of which only make a length longer by one.
Here the lengths stand on a clock, and a step touches only the sequences whose last page is full.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from typing import NamedTuple, cast

from impls.interface import PoolExhausted
from impls.policies.ledger import Clock, SequenceState
from impls.policies.page_ledger import PagedState
from impls.policies.pages import PagePool
from impls.policies.reserved import Reserved


class Request(NamedTuple):
    """What waits for admission: a sequence, the tokens that it has, and those that it will end with."""

    seq_id: int
    num_tokens: int
    final_len: int


class Lockstep:
    """A batch of sequences of one policy that decode together (one iteration of a serving engine).

    A step is ``grow`` then ``retire``; between the two the memory is at its fullest. The policy is
    exact before and after each: ``usage``, ``seq_len`` and ``slots`` may be asked of it. A sequence
    that decodes in lockstep can be changed by the batch only, until it leaves.

    Args:
        policy: the page pool, or reservation, that the sequences live in.
    """

    def __init__(self, policy: PagePool | Reserved) -> None:
        self.policy = policy
        self._pool = cast(PagePool, policy) if policy.kind.has_pages else None  # a reserved region never grows
        self._clock = Clock()
        self._running: dict[int, SequenceState] = {}  # oldest first
        self._ending: defaultdict[int, list[int]] = defaultdict(list)  # by the clock then; oldest first
        # Page tables that are full when the clock, modulo the page size, is the index; oldest first.
        self._full: list[dict[int, list[int]]] = [{} for _ in range(self._pool.page_size if self._pool else 0)]
        self._unused: defaultdict[int, int] = defaultdict(int)  # slots never used, by the clock when they are taken
        self._steps = 0
        self._most_running = 0

    @property
    def num_seqs(self) -> int:
        """Sequences in the batch."""
        return len(self._running)

    @property
    def newest(self) -> int:
        """The sequence that joined last.

        Raises:
            IndexError: the batch is empty.
        """
        if not self._running:
            raise IndexError("the batch is empty")
        return next(reversed(self._running))

    @property
    def counters(self) -> Mapping[str, int]:
        """The policy's counters, and ``steps`` and ``most_running`` of the batch."""
        return {**self.policy.counters, "steps": self._steps, "most_running": self._most_running}

    @property
    def missing_pages(self) -> int:
        """Pages that the next step needs beyond those available; 0: it will preempt nobody."""
        return max(len(self._due()) - self._pool.available_pages, 0) if self._pool else 0

    def join(self, seq_id: int) -> None:
        """Let an admitted sequence decode with the others, as the newest of them.

        Raises:
            KeyError: no such sequence in the policy.
            ValueError: it decodes in lockstep already, its final length is unknown or reached, or
                it shares a last page that it would have to copy first.
        """
        state = self.policy.join(seq_id, self._clock)
        self._running[seq_id] = state
        self._ending[_end_of(state)].append(seq_id)
        if isinstance(state, PagedState):
            self._full[-state.offset % len(self._full)][seq_id] = state.pages
            self._plan_last_page(state, +1)

    def leave(self, seq_id: int) -> None:
        """Let a sequence stop decoding; it keeps its memory and its length.

        Raises:
            KeyError: it is not in the batch.
        """
        state = self._remove(seq_id)
        end = _end_of(state)
        self._ending[end].remove(seq_id)
        if not self._ending[end]:
            del self._ending[end]  # a replay has millions of ends
        if isinstance(state, PagedState):
            self._plan_last_page(state, -1)
        self.policy.leave(seq_id)

    def grow(self) -> list[Request]:
        """Append one token to every sequence, oldest first, taking a page where the last one is full.

        With no page left, the newest sequence is preempted and the append tried again; a newest
        sequence that needs a page itself is preempted without appending.

        Returns:
            Those preempted, newest first, as they wait to be admitted again.

        Raises:
            RuntimeError: sequences of the step before have ended and were not retired.
        """
        preempted: list[Request] = []
        clock, pool = self._clock, self._pool
        if self._ending.get(clock.now):
            raise RuntimeError("sequences have reached their final length: retire them before the next step")
        if pool is not None:
            due = self._due()
            if len(due) <= pool.available_pages:
                if due:
                    pool.extend(due.values())
            else:
                preempted = self._grow_and_preempt(pool)
        unused_slots = self._unused.pop(clock.now, 0)
        clock.now += 1
        running = len(self._running)
        self.policy.tick(running, unused_slots)
        self._steps += 1
        if running > self._most_running:
            self._most_running = running
        return preempted

    @property
    def due_pages(self) -> int:
        """Pages that the next step will take."""
        return len(self._due()) if self._full else 0

    def next_pages(self, steps: int) -> list[int]:
        """Pages that each of the next ``steps`` steps will take, if nobody joins or leaves."""
        return [len(tables) for tables in self._next_full(steps)] if self._full else [0] * steps

    def next_unused(self, steps: int) -> list[int]:
        """Slots that nobody will ever fill, of the pages that each of the next ``steps`` steps will take."""
        unused, now = self._unused, self._clock.now
        return [unused.get(step, 0) for step in range(now, now + steps)] if unused else [0] * steps

    def advance(self, steps: int) -> None:
        """As many ``grow`` in one go, where nobody is preempted and nobody ends before the last of them.

        Raises:
            PoolExhausted: there are too few pages; nothing was changed.
        """
        now, unused = self._clock.now, 0
        if self._pool is not None:
            tables: Collection[list[int]] = self._due().values()
            if steps > 1:
                tables = [table for full in self._next_full(steps) for table in full.values()]
            if len(tables) > self._pool.available_pages:
                available = self._pool.available_pages
                raise PoolExhausted(f"{steps} steps need {len(tables)} pages and {available} are available")
            if tables:
                self._pool.extend(tables)
            if self._unused:
                unused = sum([self._unused.pop(step, 0) for step in range(now, now + steps)])
        self._clock.now += steps
        running = len(self._running)
        self.policy.tick(running * steps, unused)
        self._steps += steps
        self._most_running = max(self._most_running, running)

    def retire(self) -> list[int]:
        """Free the sequences that have reached their final length.

        Returns:
            These sequences, oldest first.
        """
        ended = self._ending.pop(self._clock.now, [])
        for seq_id in ended:
            self._remove(seq_id)
            self.policy.leave(seq_id)
            self.policy.free(seq_id)
        return ended

    def _due(self) -> dict[int, list[int]]:
        """Page tables that are full now, by sequence."""
        return self._full[self._clock.now % len(self._full)]

    def _next_full(self, steps: int) -> list[dict[int, list[int]]]:
        """Page tables that are full before each of the next steps, by sequence."""
        full = self._full
        start = self._clock.now % len(full)
        turns = 1 + (start + steps) // len(full)
        return (full * turns)[start : start + steps] if turns > 1 else full[start : start + steps]

    def _grow_and_preempt(self, pool: PagePool) -> list[Request]:
        """Give a page to each that is due, oldest first, throwing out the newest whenever none is left."""
        preempted = []
        due = self._due()
        waiting = list(due)
        while waiting:
            served = waiting[: pool.available_pages]
            pool.extend([due[seq_id] for seq_id in served])
            del waiting[: len(served)]
            if waiting:
                preempted.append(self._preempt_newest(pool))
                if preempted[-1].seq_id == waiting[-1]:
                    waiting.pop()
        return preempted

    def _preempt_newest(self, pool: PagePool) -> Request:
        seq_id = self.newest
        final_len = self._running[seq_id].final_len
        self.leave(seq_id)
        return Request(seq_id, pool.preempt(seq_id), final_len)

    def _plan_last_page(self, state: PagedState, sign: int) -> None:
        """Note (or strike out, by the sign) what a sequence's last page will leave unused, if it is yet to be taken."""
        page_size, final_len = len(self._full), state.final_len
        tokens_before = (final_len - 1) // page_size * page_size
        if tokens_before >= state.num_tokens:
            self._unused[tokens_before - state.offset] += sign * (-final_len % page_size)

    def _remove(self, seq_id: int) -> SequenceState:
        try:
            state = self._running.pop(seq_id)
        except KeyError:
            raise KeyError(f"sequence {seq_id} does not decode in this batch") from None
        if self._full:
            del self._full[-state.offset % len(self._full)][seq_id]
        return state


def _end_of(state: SequenceState) -> int:
    """The clock at which a sequence reaches its final length."""
    return state.final_len - state.offset
