"""Scenario ``serving`` from event to event: arrivals, admissions, completions, and a shortage of pages.

Between two events a step equals the one before, with one more token per sequence. The duration of many such steps, and
the use of the pool in them, are sums in closed form. Every step equals that of ``engines/steps.py``.
"""

from __future__ import annotations

from collections import deque

from bench.scenarios.serving.engines.base import Engine
from bench.scenarios.serving.engines.batch import RunningBatch
from bench.scenarios.serving.engines.decision import EngineStep
from bench.scenarios.serving.engines.runs import Run, evicted_slots, from_then_on
from bench.scenarios.serving.groups import Beams, Entry, Group, insert_by_arrival
from bench.scenarios.serving.record import Gaps, Record
from impls.policies import PagePool, SlotSplit


class EventReplay(Engine):
    """One replay, from event to event."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.batch = RunningBatch(self.memory, crossing=self.beams is not None)
        self.swapped: deque[Group] = deque()  # in order of arrival
        self._decoded_fs = 0  # end of the last decoding step
        self._fresh: dict[int, Group] = {}  # prefill=first: requests that got their first token since then
        self._unadmitted = len(self.coming)  # requests that were not admitted yet

    def run(self) -> Record:
        """Serve until the end."""
        coming, waiting, arrivals = self.coming, self.waiting, self.load.arrivals_fs
        while coming or waiting or self.swapped or self.batch.groups:
            if not (waiting or self.swapped or self.batch.groups):
                self.now_fs = max(self.now_fs, arrivals[coming[0].index])
            if self.end_fs is not None and self.now_fs >= self.end_fs:
                break
            while coming and arrivals[coming[0].index] <= self.now_fs:
                waiting.append(coming.popleft())
            if not (self._only_decodes() and self._fast_forward(self._split())):
                self._step()
        self._close()
        return self.record

    def _only_decodes(self) -> bool:
        """Return whether the next step only decodes: no admission, swap or fork."""
        in_step = self._decoded_fs == self.now_fs  # false after prompts that were computed first
        return in_step and not (self.waiting or self.swapped or self.batch.loose) and self.beams is None

    def _close(self) -> None:
        record, batch = self.record, self.batch
        for group in batch.groups.values():
            record.generated[group.index] = batch.generated(group)
            record.last_fs[group.index] = self._token_fs(group)
        for group in (*self.swapped, *self.waiting):
            record.generated[group.index] = group.generated
            if group.generated:
                record.last_fs[group.index] = group.token_fs
        record.end_fs = self.now_fs

    def _step(self) -> None:
        """Do one step, and fast-forward equal steps until the next event."""
        was_loaded = self._unadmitted > 0
        copies_before = self.pool.copied_pages if self.pool else 0
        step = self._schedule()
        copied = self._crossed
        if self.pool is not None:
            copied += (self.pool.copied_pages - copies_before) * self.pool.page_size
        self._crossed = 0
        step_fs = self.cost.step_fs(step.work(copied))
        split = self._split()
        requests, seqs = len(self.batch.groups), self.batch.sizes.seqs
        if was_loaded:
            self.record.add_step(step_fs, split, self._saved(), requests, seqs)
        self._count_steps(step_fs, 1, requests, seqs)
        self.record.sample(self.now_fs, requests, len(self.waiting) + len(self.swapped), split)
        self.now_fs += step_fs
        self._give_tokens(step)
        finished = self._finish()
        if self.beams is not None:
            self._cross(self.beams, step)
        elif not finished and not step.may_admit and not self.batch.loose:
            self._fast_forward(split)

    def _schedule(self) -> EngineStep:
        """Decide which requests are in the step, and take their memory."""
        step, batch = EngineStep(), self.batch
        if self.scenario.prefill == "first":
            self._admit(step)
            if step.entries:
                step.may_admit = True
                return step
        step.decodes = True
        self._make_room(step)
        batch.grow()
        if not step.preempted:
            self._swap_in(step)
        step.seqs, step.context = batch.sizes.seqs, batch.context
        if self.scenario.prefill == "first":
            step.may_admit = bool(step.late)  # a request that came back no longer delays the queue
        else:
            self._admit(step)
        step.may_admit |= bool(step.preempted)
        return step

    def _make_room(self, step: EngineStep) -> None:
        """Preempt the latest until, oldest first, each has a free page per sequence."""
        batch, pool = self.batch, self.pool
        if pool is None or not batch.needs_room():
            return
        groups = list(batch.groups.values())
        promised = place = 0
        while place < len(groups):
            group = groups[place]
            if pool.available_pages - promised >= len(group.seq_ids):
                promised += batch.pages_for(group)
                place += 1
            else:
                step.preempted.append(groups.pop())
                step.swapped_pages += self._preempt(pool, step.preempted[-1])

    def _preempt(self, pool: PagePool, group: Group) -> int:
        """Preempt a request. Return the pages that are moved to the host."""
        group.token_fs = self._token_fs(group)
        self._fresh.pop(group.index, None)
        self.batch.leave(group)
        self.record.count["preemptions"] += 1
        if self.scenario.swaps and pool.can_swap_out(*group.seq_ids):
            insert_by_arrival(self.swapped, group)
            return len(pool.swap_out(*group.seq_ids))
        for seq_id in group.seq_ids:
            pool.preempt(seq_id)
        insert_by_arrival(self.waiting, group)
        return 0

    def _swap_in(self, step: EngineStep) -> None:
        """Swap in requests that fit above the watermark, with a spare page per sequence."""
        pool = self.pool
        while self.swapped and pool is not None:
            group = self.swapped[0]
            count = len(group.seq_ids)
            needed = pool.pages_to_swap_in(*group.seq_ids) + count + pool.kept_pages
            if needed > pool.available_pages or self.batch.sizes.seqs + count > self.scenario.max_batch_seqs:
                return
            step.swapped_pages += len(pool.swap_in(*group.seq_ids))
            for seq_id in group.seq_ids:
                pool.append(seq_id)
            self.batch.join(group)
            step.late.append(self.swapped.popleft())

    def _admit(self, step: EngineStep) -> None:
        """Admit from the queue's head until memory or a limit refuses it, or it was preempted in this step."""
        waiting, memory, batch, most_seqs = self.waiting, self.memory, self.batch, self.scenario.max_batch_seqs
        count = self.scenario.num_samples
        while waiting and not self.swapped:
            group = waiting[0]
            if group in step.preempted or batch.sizes.seqs + count > most_seqs:
                return
            entry = memory.entry(group)
            if self.exceeds_tokens(step.seqs + step.tokens, entry.tokens, is_first=not step.entries):
                step.may_admit = bool(step.entries)
                return
            if not memory.try_enter(group):
                return
            batch.join(waiting.popleft())
            step.entries.append(group)
            step.tokens += entry.tokens
            step.found += entry.context
            step.pairs += entry.pairs
            self._note_entry(group, entry)

    def _note_entry(self, group: Group, entry: Entry) -> None:
        record = self.record
        if record.admitted_fs[group.index] < 0:
            record.admitted_fs[group.index] = self.now_fs
            record.count["prompt_tokens"] += group.prompt
            record.count["prefix_hit_tokens"] += entry.context
            self._unadmitted -= 1
        else:  # a preempted request can find its own pages again, which is no hit
            record.count["recomputed_tokens"] += entry.tokens

    def _give_tokens(self, step: EngineStep) -> None:
        """Record a token for every sequence in the step."""
        now, gaps, count = self.now_fs, self.record.gaps, self.scenario.num_samples
        if step.decodes:
            if self._fresh or step.late:
                gaps.extend(Gaps(now - group.token_fs, 0, 1, count) for group in (*self._fresh.values(), *step.late))
            others = step.seqs - count * (len(self._fresh) + len(step.late))
            if others:
                gaps.append(Gaps(now - self._decoded_fs, 0, 1, others))
            self._fresh.clear()
            self._decoded_fs = now
        for group in step.entries:
            if group.generated:
                gaps.append(Gaps(now - group.token_fs, 0, 1, count))
            else:
                self.record.first_fs[group.index] = now
            if not step.decodes:
                group.token_fs = now
                self._fresh[group.index] = group
        self.record.count["output_tokens"] += step.seqs + count * len(step.entries)

    def _finish(self) -> bool:
        """Remove requests that have all of their tokens. Return whether there were any."""
        record, batch = self.record, self.batch
        finished = batch.pop_finished()
        for group in finished:
            record.last_fs[group.index] = self.now_fs
            record.generated[group.index] = group.output
            record.finished[group.index] = True
            self._fresh.pop(group.index, None)
            if self.beams is not None:
                self.beams.forget(group)
        return bool(finished)

    def _cross(self, beams: Beams, step: EngineStep) -> None:
        """Let the beams of all requests with a token in the step cross."""
        batch = self.batch
        groups = batch.groups.values() if step.decodes else [g for g in step.entries if g.index in batch.groups]
        for group in groups:
            if forks := beams.forks(group, batch.generated(group)):
                self._crossed += batch.cross(group, forks)

    def _fast_forward(self, split: SlotSplit) -> bool:
        """Advance by all steps up to the next arrival, completion or shortage of pages. Return whether any."""
        batch, seqs = self.batch, self.batch.sizes.seqs
        if not seqs:
            return False
        run = Run(
            self.cost.linear_fs(seqs) + self.cost.context_fs * (batch.context + seqs), self.cost.context_fs * seqs
        )
        steps = batch.steps_to_end
        if self.coming and not self.waiting and not self.swapped:
            steps = min(steps, run.steps_until(self.load.arrivals_fs[self.coming[0].index] - self.now_fs))
        if self.end_fs is not None:
            steps = min(steps, run.steps_until(self.end_fs - self.now_fs))
        pages = batch.affordable_steps(steps)
        steps = len(pages)
        if not steps:
            return False
        self.record.sample(self.now_fs, len(batch.groups), len(self.waiting) + len(self.swapped), split)
        if self._unadmitted:
            self._add_run(run, pages, split)
        duration_fs = run.duration_fs(steps)
        self._count_steps(duration_fs, steps, len(batch.groups), seqs)
        batch.advance(steps)
        self.now_fs = self._decoded_fs = self.now_fs + duration_fs
        self.record.gaps.append(Gaps(run.first_fs, run.slope_fs, steps, seqs))
        self.record.count["output_tokens"] += seqs * steps
        self._finish()
        return True

    def _add_run(self, run: Run, pages: list[int], split: SlotSplit) -> None:
        """Add sums over the time of some steps. In the first, each sequence grows from the state of ``split``."""
        steps, seqs, totals = len(pages), self.batch.sizes.seqs, self.record.totals
        duration_fs = run.duration_fs(steps)
        grown = seqs * (
            run.first_fs * steps * (steps + 1) // 2 + run.slope_fs * ((steps - 1) * steps * (steps + 1) // 3)
        )
        live = split.live * duration_fs + grown
        held = (split.live + split.reserved + split.internal) * duration_fs
        internal, cached, free = split.internal * duration_fs, split.cached * duration_fs, split.free * duration_fs
        if self.pool is not None:
            size = self.pool.page_size
            taken = size * from_then_on(run, duration_fs, pages)
            held, free = held + taken, free - taken
            internal += from_then_on(run, duration_fs, self.batch.lockstep.next_unused(steps))
            if split.cached:
                evicted = evicted_slots(run, [count * size for count in pages], split.free)
                cached, free = cached - evicted, free + evicted
        external = split.external * duration_fs
        parts = (live, held - live - internal, internal, external, cached, free)
        totals.time_fs += duration_fs
        for place, slots_fs in enumerate(parts):
            totals.parts[place] += slots_fs
        saved_tokens, saved_pages = self._saved()
        totals.saved_tokens += saved_tokens * duration_fs
        totals.saved_pages += saved_pages * duration_fs
        totals.requests += len(self.batch.groups) * duration_fs
        totals.seqs += seqs * duration_fs

    def _count_steps(self, duration_fs: int, steps: int, requests: int, seqs: int) -> None:
        record = self.record
        record.busy_fs += duration_fs
        record.running_fs += duration_fs * requests
        record.count["steps"] += steps
        if seqs > record.count["most_running_seqs"]:
            record.count["most_running_seqs"] = seqs

    def _split(self) -> SlotSplit:
        """Return the split of the pool for the request at the queue's head, or the next arrival."""
        head = self.waiting[0] if self.waiting else self.coming[0] if self.coming else None
        policy = self.memory.policy
        return policy.split(head.prompt, head.final_len) if head else policy.split()

    def _saved(self) -> tuple[int, int]:
        return (self.pool.saved_tokens, self.pool.saved_pages) if self.pool else (0, 0)

    def _token_fs(self, group: Group) -> int:
        """Return when a running request got its newest token."""
        return group.token_fs if group.index in self._fresh else self._decoded_fs
