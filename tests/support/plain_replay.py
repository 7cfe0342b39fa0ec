"""A replay without any cleverness: one call of the policy per sequence and step, one usage per step."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from typing import Any

import numpy as np

from impls.interface import Admission, Policy
from impls.policies import PagePool, Request
from impls.spec import ceil_div

PARTS = ("live", "reserved", "internal_fragmentation", "external_fragmentation", "cached", "free")


def replay(policy: Policy, requests: Sequence[Request], arrivals: Sequence[int]) -> dict[str, Any]:
    """Serve requests that arrive in given steps. The sums cover the steps before the last admission."""
    waiting: deque[Request] = deque()
    coming = deque(zip(arrivals, requests, strict=True))
    running: dict[int, int] = {}  # final lengths, oldest first
    sums, ratio, loaded, most, step = np.zeros(len(PARTS), dtype=np.int64), 0.0, 0, 0, 0
    while coming or waiting or running:
        while coming and coming[0][0] <= step:
            waiting.append(coming.popleft()[1])
        while waiting and policy.can_admit(waiting[0].num_tokens, waiting[0].final_len) is Admission.NOW:
            request = waiting.popleft()
            policy.admit(*request)
            running[request.seq_id] = request.final_len
        for seq_id in list(running):
            while seq_id in running and not policy.can_append(seq_id):
                assert isinstance(policy, PagePool)
                newest = next(reversed(running))
                waiting.appendleft(Request(newest, policy.preempt(newest), running.pop(newest)))
            if seq_id in running:
                policy.append(seq_id)
        most = max(most, len(running))
        if waiting or coming:
            head = waiting[0] if waiting else coming[0][1]
            usage = policy.usage(head.num_tokens, head.final_len)
            sums += [getattr(usage, f"{part}_bytes") for part in PARTS]
            ratio += usage.largest_free_ratio
            loaded += 1
        for seq_id in [seq_id for seq_id, final_len in running.items() if policy.seq_len(seq_id) == final_len]:
            policy.free(seq_id)
            del running[seq_id]
        step += 1
    return {**policy.counters, "steps": step, "loaded_steps": loaded, "most_running_seqs": most,
            "sums": dict(zip(PARTS, sums.tolist(), strict=True)), "largest_free": ratio}  # fmt: skip


def replay_of_a_bare_list(requests: Sequence[Request], num_pages: int, page_size: int) -> Counter[str]:
    """The saturated queue on a list of free pages and nothing else: no accounting, no checks.

    The yardstick for speed, and a third opinion on the counters.
    """
    count: Counter[str] = Counter()
    free = list(range(num_pages))
    waiting = deque(requests)
    tables: dict[int, list[int]] = {}  # oldest first
    lens: dict[int, int] = {}
    finals = {request.seq_id: request.final_len for request in requests}
    while waiting or lens:
        while waiting and ceil_div(waiting[0].num_tokens, page_size) <= len(free):
            seq_id, num_tokens, _ = waiting.popleft()
            needed = ceil_div(num_tokens, page_size)
            tables[seq_id] = free[-needed:]
            del free[-needed:]
            lens[seq_id] = num_tokens
            count["admissions"] += 1
            count["pages_taken_admit"] += needed
        done = []
        for seq_id in list(lens):
            length = lens.get(seq_id)
            if length is None:
                continue
            if length % page_size == 0:
                while not free:
                    newest = next(reversed(lens))
                    free += tables.pop(newest)
                    waiting.appendleft(Request(newest, lens.pop(newest), finals[newest]))
                    count["preemptions"] += 1
                    if newest == seq_id:
                        break
                if seq_id not in lens:
                    continue
                tables[seq_id].append(free.pop())
                count["pages_taken_append"] += 1
            lens[seq_id] = length + 1
            count["appends"] += 1
            if length + 1 == finals[seq_id]:
                done.append(seq_id)
        for seq_id in done:
            if seq_id in lens:  # it may have been preempted after its last append
                free += tables.pop(seq_id)
                del lens[seq_id]
                count["frees"] += 1
        count["steps"] += 1
    return count
