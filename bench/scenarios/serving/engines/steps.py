"""Scenario ``serving`` token by token, written to be read: the specification of the events engine.

A step has six parts:

1. Arrived requests wait.
2. Every running sequence gets a slot for its last generated token. If pages run short, the latest request is preempted.
3. Swapped requests come back.
4. Requests at the queue's head are admitted as long as memory and limits allow it.
5. The step is computed, and every sequence in it gets a token.
6. Finished requests leave, and beams cross.
"""

from __future__ import annotations

from bench.scenarios.serving.cost import StepWork
from bench.scenarios.serving.engines.base import Engine
from bench.scenarios.serving.groups import Entry, Group, insert_by_arrival
from bench.scenarios.serving.record import Gaps, Record


class PlainReplay(Engine):
    """One replay, a step and a sequence at a time."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.running: list[Group] = []  # in order of arrival
        self.swapped: list[Group] = []  # in order of arrival
        self.preempted: list[Group] = []  # in this step

    def run(self) -> Record:
        """Serve until the end."""
        while self.coming or self.waiting or self.running or self.swapped:
            if not (self.waiting or self.running or self.swapped):
                self.now_fs = max(self.now_fs, self._arrival_fs(self.coming[0]))
            if self.end_fs is not None and self.now_fs >= self.end_fs:
                break
            while self.coming and self._arrival_fs(self.coming[0]) <= self.now_fs:
                self.waiting.append(self.coming.popleft())
            self.step()
        for group in (*self.running, *self.swapped, *self.waiting):
            self.record.generated[group.index] = group.generated
        self.record.end_fs = self.now_fs
        return self.record

    def step(self) -> None:
        """Do one step, from the queue to the tokens."""
        copies_before = self.pool.counters["pages_copied"] if self.pool else 0
        was_loaded = self._is_loaded()
        decoding: list[Group] = []
        returned: list[Group] = []
        self.preempted = []
        swapped_pages = 0
        entries: list[tuple[Group, Entry]] = []
        if self.scenario.prefill == "first":
            entries = self._admit(0)
        if not entries:
            swapped_pages += self._make_room()
            for group in self.running:
                self._append(group)
            decoding = list(self.running)
            if not self.preempted:
                returned, pages = self._swap_in()
                swapped_pages += pages
                decoding += returned
            if self.scenario.prefill == "mixed":
                entries = self._admit(sum(len(group.seq_ids) for group in decoding))
        copied = self._crossed + ((self.pool.counters["pages_copied"] - copies_before) * self.pool.page_size
                                  if self.pool else 0)  # fmt: skip
        self._crossed = 0
        step_fs = self.cost.step_fs(
            StepWork(
                tokens=sum(entry.tokens for _, entry in entries) + sum(len(group.seq_ids) for group in decoding),
                context=sum(entry.context for _, entry in entries)
                + sum(self.memory.policy.seq_len(seq_id) for group in decoding for seq_id in group.seq_ids),
                pairs=sum(entry.pairs for _, entry in entries),
                copied=copied,
                swapped_pages=swapped_pages,
            )
        )
        self._note(step_fs, was_loaded)
        self.now_fs += step_fs
        in_step = [*decoding, *(group for group, _ in entries)]
        for group in in_step:
            self._get_token(group)
        self._finish(in_step)

    def _arrival_fs(self, group: Group) -> int:
        return self.load.arrivals_fs[group.index]

    def _is_loaded(self) -> bool:
        return bool(self.coming) or any(self.record.admitted_fs[group.index] < 0 for group in self.waiting)

    def _make_room(self) -> int:
        """Preempt the latest until, oldest first, each has a free page per sequence. Return the pages swapped out."""
        if self.pool is None:
            return 0
        swapped_pages = promised = place = 0
        while place < len(self.running):
            group = self.running[place]
            if self.pool.available_pages - promised >= len(group.seq_ids):
                promised += self.pool.pages_for_next(group.seq_ids)
                place += 1
            else:
                swapped_pages += self._preempt(self.running.pop())
        return swapped_pages

    def _preempt(self, group: Group) -> int:
        """Preempt a request. Return the pages that are moved to the host."""
        assert self.pool is not None
        self.preempted.append(group)
        self.record.count["preemptions"] += 1
        if self.scenario.swaps and self.pool.can_swap_out(*group.seq_ids):
            insert_by_arrival(self.swapped, group)
            return len(self.pool.swap_out(*group.seq_ids))
        for seq_id in group.seq_ids:
            self.pool.preempt(seq_id)
        insert_by_arrival(self.waiting, group)
        return 0

    def _append(self, group: Group) -> None:
        for seq_id in group.seq_ids:
            self.memory.policy.append(seq_id)

    def _swap_in(self) -> tuple[list[Group], int]:
        """Swap in requests that fit above the watermark, with a spare page per sequence."""
        returned, pages = [], 0
        while self.swapped:
            assert self.pool is not None
            group = self.swapped[0]
            count = len(group.seq_ids)
            needed = self.pool.pages_to_swap_in(*group.seq_ids) + count + self.pool.kept_pages
            if needed > self.pool.available_pages or self._num_seqs() + count > self.scenario.max_batch_seqs:
                break
            pages += len(self.pool.swap_in(*group.seq_ids))
            self._append(group)
            insert_by_arrival(self.running, self.swapped.pop(0))
            returned.append(group)
        return returned, pages

    def _admit(self, tokens: int) -> list[tuple[Group, Entry]]:
        """Admit from the queue's head. ``tokens`` are already in the step."""
        entries: list[tuple[Group, Entry]] = []
        while self.waiting and not self.swapped and self.waiting[0] not in self.preempted:
            group = self.waiting[0]
            if self._num_seqs() + len(group.seq_ids) > self.scenario.max_batch_seqs:
                break
            entry = self.memory.entry(group)
            if self.exceeds_tokens(tokens, entry.tokens, is_first=not entries):
                break
            if not self.memory.try_enter(group):
                break
            tokens += entry.tokens
            entries.append((group, entry))
            self._enter(self.waiting.popleft(), entry)
        return entries

    def _enter(self, group: Group, entry: Entry) -> None:
        record = self.record
        if record.admitted_fs[group.index] < 0:
            record.admitted_fs[group.index] = self.now_fs
            record.count["prompt_tokens"] += group.prompt
            record.count["prefix_hit_tokens"] += entry.context
        else:  # a preempted request can find its own pages again, which is no hit
            record.count["recomputed_tokens"] += entry.tokens
        insert_by_arrival(self.running, group)

    def _num_seqs(self) -> int:
        return sum(len(group.seq_ids) for group in self.running)

    def _note(self, step_fs: int, was_loaded: bool) -> None:
        record, policy = self.record, self.memory.policy
        head = self.waiting[0] if self.waiting else self.coming[0] if self.coming else None
        split = policy.split(head.prompt, head.final_len) if head else policy.split()
        if was_loaded:
            saved = (policy.saved_tokens, self.pool.saved_pages if self.pool else 0)
            record.add_step(step_fs, split, saved, len(self.running), self._num_seqs())
        record.sample(self.now_fs, len(self.running), len(self.waiting) + len(self.swapped), split)
        record.busy_fs += step_fs
        record.running_fs += step_fs * len(self.running)
        record.count["steps"] += 1
        record.count["most_running_seqs"] = max(record.count["most_running_seqs"], self._num_seqs())

    def _get_token(self, group: Group) -> None:
        if group.generated:
            self.record.gaps.append(Gaps(self.now_fs - group.token_fs, 0, 1, len(group.seq_ids)))
        group.generated += 1
        group.token_fs = self.now_fs
        self.record.count["output_tokens"] += len(group.seq_ids)
        self.record.add_token(group.index, self.now_fs)

    def _finish(self, in_step: list[Group]) -> None:
        """Let finished requests leave and beams cross, among those with a token in the step."""
        for group in sorted(in_step, key=lambda group: group.arrival_fs):
            if group.generated == group.output:
                self.memory.free(group)
                self.running.remove(group)
                self.record.generated[group.index] = group.generated
                self.record.finished[group.index] = True
            elif self.beams is not None:
                forks = self.beams.forks(group, group.generated)
                self._crossed += self.memory.cross(group, forks)
