"""What the policies are held against: definitions spelt out slot by slot, and a plain replay, token by token."""

from __future__ import annotations

import pickle
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pytest

from impls.policies import PagePool
from impls.policies.ledger import SlotSplit
from impls.policies.lockstep import Request

TRACES = Path(__file__).resolve().parents[3] / "shared" / "traces"


def trace_file(name: str) -> Path:
    """Return a published trace, or skip with the reason."""
    path = TRACES / name
    if not path.exists():
        pytest.skip(f"the trace file {name} is not in ../shared/traces")
    return path


def snapshot(policy: object) -> bytes:
    """All that a policy knows."""
    return pickle.dumps(policy)


def split_by_slots(pool: PagePool, final_lens: Mapping[int, int | None]) -> SlotSplit:
    """The parts of a page pool, from the sets of slots that the definitions speak of."""
    size = pool.page_size
    live: set[int] = set()
    promised: set[int] = set()
    held: set[int] = set()
    for seq_id, final_len in final_lens.items():
        pages, num_tokens = pool.page_ids(seq_id), pool.seq_len(seq_id)
        slots = [page * size + offset for page in pages for offset in range(size)]
        live.update(slots[:num_tokens])
        promised.update(slots[num_tokens : final_len or 0])
        held.update(slots)
    promised -= live
    cached = (pool.available_pages - pool.free_pages) * size
    return SlotSplit(
        len(live), len(promised), len(held - live - promised), 0, cached, pool.num_pages * size - len(held) - cached
    )


class PlainReplay:
    """The saturated queue, one token at a time, over a bare list of free pages."""

    def __init__(self, num_pages: int, page_size: int, requests: Iterable[Request]) -> None:
        self.page_size = page_size
        self.free = list(reversed(range(num_pages)))
        self.queue = deque(requests)
        self.running: list[tuple[Request, list[int]]] = []  # oldest first, with the current length of each request
        names = "admissions appends pages_taken_admit pages_taken_append pages_freed frees preemptions steps"
        self.counters = dict.fromkeys([*names.split(), "most_running", "peak_pages"], 0)
        self.num_pages = num_pages

    def steps(self) -> Iterator[SlotSplit]:
        """Run to the end. Yield the split before finished requests are freed."""
        while self.queue or self.running:
            self._admit()
            self._append()
            self.counters["steps"] += 1
            self.counters["most_running"] = max(self.counters["most_running"], len(self.running))
            yield self._split()
            ended = [entry for entry in self.running if entry[0].num_tokens == entry[0].final_len]
            self.running = [entry for entry in self.running if entry[0].num_tokens < entry[0].final_len]
            for _, pages in ended:
                self._give(pages)
                self.counters["frees"] += 1

    def _admit(self) -> None:
        while self.queue:
            count = -(-self.queue[0].num_tokens // self.page_size)
            if count > len(self.free):
                return
            self.running.append((self.queue.popleft(), [self._take("pages_taken_admit") for _ in range(count)]))
            self.counters["admissions"] += 1

    def _append(self) -> None:
        index = 0
        while index < len(self.running):
            request, pages = self.running[index]
            if request.num_tokens % self.page_size == 0:
                while not self.free and index < len(self.running):
                    victim, victims_pages = self.running.pop()
                    self.queue.appendleft(victim)
                    self._give(victims_pages)
                    self.counters["preemptions"] += 1
                if index == len(self.running):
                    return
                pages.append(self._take("pages_taken_append"))
            self.running[index] = (request._replace(num_tokens=request.num_tokens + 1), pages)
            self.counters["appends"] += 1
            index += 1

    def _take(self, counter: str) -> int:
        self.counters[counter] += 1
        page = self.free.pop()
        self.counters["peak_pages"] = max(self.counters["peak_pages"], self.num_pages - len(self.free))
        return page

    def _give(self, pages: list[int]) -> None:
        self.free.extend(reversed(pages))
        self.counters["pages_freed"] += len(pages)

    def _split(self) -> SlotSplit:
        size, live, reserved, internal = self.page_size, 0, 0, 0
        for request, pages in self.running:
            held = len(pages) * size
            live += request.num_tokens
            reserved += min(held, request.final_len) - request.num_tokens
            internal += max(held - request.final_len, 0)
        return SlotSplit(live, reserved, internal, 0, 0, len(self.free) * size)
