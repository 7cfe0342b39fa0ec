"""Sequences that decode in lockstep: every step appends one token to each of them.

A replay of a trace makes millions of appends, and nearly all of them only add one to a length. Here the lengths are
relative to a clock, so that a step changes only the sequences whose last page is full.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from typing import NamedTuple, cast

from impls.interface import PoolExhausted
from impls.policies.freelist import PageIds
from impls.policies.ledger import Clock, SequenceState
from impls.policies.page_ledger import PagedState
from impls.policies.pages import PagePool
from impls.policies.reserved import Reserved


class Request(NamedTuple):
    """A sequence that waits for admission, its current number of tokens, and its number of tokens at the end."""

    seq_id: int
    num_tokens: int
    final_len: int


class Lockstep:
    """A batch of sequences of one policy that decode together (one iteration of a serving engine).

    A step is ``grow`` and then ``retire``. Memory use is highest between the two. Before and after each call the
    policy is exact, so ``usage``, ``seq_len`` and ``slots`` may be called. Only the batch can change a sequence that
    decodes in lockstep, until the sequence leaves.

    Args:
        policy: the page pool or reservation that holds the sequences.
    """

    def __init__(self, policy: PagePool | Reserved) -> None:
        self.policy = policy
        self._pool = cast(PagePool, policy) if policy.kind.has_pages else None  # a reserved region never grows
        self._clock = Clock()
        self._running: dict[int, SequenceState] = {}  # oldest first
        self._ending: defaultdict[int, list[int]] = defaultdict(list)  # by the clock at their end, oldest first
        # At index i, the page tables that are full when clock % page_size is i, oldest first.
        self._full: list[dict[int, PageIds]] = [{} for _ in range(self._pool.page_size if self._pool else 0)]
        self._unused: defaultdict[int, int] = defaultdict(
            int
        )  # slots that will never be used, by the clock when they are taken
        self._steps = 0
        self._max_running = 0

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
        """The counters of the policy, and ``steps`` and ``most_running`` of the batch."""
        return {**self.policy.counters, "steps": self._steps, "most_running": self._max_running}

    @property
    def missing_pages(self) -> int:
        """Pages that the next step needs beyond the available ones. With 0 the step preempts no sequence."""
        return max(len(self._due()) - self._pool.available_pages, 0) if self._pool else 0

    def join(self, seq_id: int) -> None:
        """Add an admitted sequence to the batch, as its newest sequence.

        Raises:
            KeyError: the sequence holds no memory.
            ValueError: the sequence already decodes in lockstep, its final length is unknown or reached, or
                it shares a last page that it must copy first.
        """
        state = self.policy._join(seq_id, self._clock)
        self._running[seq_id] = state
        self._ending[_end_of(state)].append(seq_id)
        if isinstance(state, PagedState):
            self._full[-state.offset % len(self._full)][seq_id] = state.pages
            self._plan_last_page(state, +1)

    def leave(self, seq_id: int) -> None:
        """Remove a sequence from the batch. It keeps its memory and its length.

        Raises:
            KeyError: the sequence is not in the batch.
        """
        state = self._remove(seq_id)
        end = _end_of(state)
        self._ending[end].remove(seq_id)
        if not self._ending[end]:
            del self._ending[end]  # a replay has millions of ends
        if isinstance(state, PagedState):
            self._plan_last_page(state, -1)
        self.policy._leave(seq_id)

    def grow(self) -> list[Request]:
        """Append one token to every sequence, oldest first, taking a page where the last one is full.

        With no page left, the newest sequence is preempted and the append is tried again. If the newest sequence
        is the one that needs a page, it is preempted without appending.

        Returns:
            The preempted sequences, newest first, as requests for their next admission.

        Raises:
            RuntimeError: sequences ended in the previous step and were not retired.
        """
        preempted: list[Request] = []
        clock, pool = self._clock, self._pool
        if self._ending.get(clock.now):
            raise RuntimeError("sequences have reached their final length: call retire before the next step")
        if pool is not None:
            due = self._due()
            if len(due) <= pool.available_pages:
                if due:
                    pool._extend(due.values())
            else:
                preempted = self._grow_and_preempt(pool)
        unused_slots = self._unused.pop(clock.now, 0)
        clock.now += 1
        running = len(self._running)
        self.policy._tick(running, unused_slots)
        self._steps += 1
        if running > self._max_running:
            self._max_running = running
        return preempted

    @property
    def due_pages(self) -> int:
        """Pages that the next step takes."""
        return len(self._due()) if self._full else 0

    def next_pages(self, steps: int) -> list[int]:
        """Return the pages that each of the next ``steps`` steps takes, if no sequence joins or leaves."""
        return [len(tables) for tables in self._next_full(steps)] if self._full else [0] * steps

    def next_unused(self, steps: int) -> list[int]:
        """Return the slots that will never be filled, of the pages that each of the next ``steps`` steps takes."""
        unused, now = self._unused, self._clock.now
        return [unused.get(step, 0) for step in range(now, now + steps)] if unused else [0] * steps

    def advance(self, steps: int) -> None:
        """Do ``steps`` calls of ``grow`` at once. No sequence may end before the last step.

        Raises:
            PoolExhausted: there are too few pages to do so without preemption. Nothing is changed.
        """
        now, unused = self._clock.now, 0
        if self._pool is not None:
            tables: Collection[PageIds] = self._due().values()
            if steps > 1:
                tables = [table for full in self._next_full(steps) for table in full.values()]
            if len(tables) > self._pool.available_pages:
                available = self._pool.available_pages
                raise PoolExhausted(f"{steps} steps need {len(tables)} pages and {available} are available")
            if tables:
                self._pool._extend(tables)
            if self._unused:
                unused = sum([self._unused.pop(step, 0) for step in range(now, now + steps)])
        self._clock.now += steps
        running = len(self._running)
        self.policy._tick(running * steps, unused)
        self._steps += steps
        self._max_running = max(self._max_running, running)

    def retire(self) -> list[int]:
        """Free the sequences that have reached their final length.

        Returns:
            The freed sequences, oldest first.
        """
        ended = self._ending.pop(self._clock.now, [])
        for seq_id in ended:
            self._remove(seq_id)
            self.policy._leave(seq_id)
            self.policy.free(seq_id)
        return ended

    def _due(self) -> dict[int, PageIds]:
        """Return the page tables that are full now, by sequence."""
        return self._full[self._clock.now % len(self._full)]

    def _next_full(self, steps: int) -> list[dict[int, PageIds]]:
        """Return the page tables that are full before each of the next steps, by sequence."""
        full = self._full
        start = self._clock.now % len(full)
        turns = 1 + (start + steps) // len(full)
        return (full * turns)[start : start + steps] if turns > 1 else full[start : start + steps]

    def _grow_and_preempt(self, pool: PagePool) -> list[Request]:
        """Give a page to each sequence that needs one, oldest first. Preempt the newest whenever no page is left."""
        preempted = []
        due = self._due()
        waiting = list(due)
        while waiting:
            served = waiting[: pool.available_pages]
            pool._extend([due[seq_id] for seq_id in served])
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
        """Add (or subtract, by the sign) the slots that the last page will leave unused, if it is yet to be taken."""
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
    """Return the clock at which a sequence reaches its final length."""
    return state.final_len - state.offset
