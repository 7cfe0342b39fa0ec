"""A queue that is never empty until the end: all requests wait from the start."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping

from impls.interface import Admission
from impls.policies.ledger import SlotSplit
from impls.policies.lockstep import Lockstep, Request
from impls.policies.pages import PagePool
from impls.policies.reserved import Reserved


class SaturatedQueue:
    """Requests served in order of arrival, as fast as memory admits them.

    A step has three parts:
    1. The head of the queue is admitted with its whole current length, as long as the policy admits it.
    2. Every running sequence appends one token (``Lockstep.grow``). Preempted sequences go back to the head of the
       queue and keep the number of their generated tokens.
    3. Finished sequences are freed.

    Args:
        policy: an empty page pool or reservation.
        requests: requests in order of arrival. A request that can never reach its end in this pool is refused,
            because it would block the queue or preempt itself forever.

    Attributes:
        batch: the running sequences.
        refused: the refused requests, in order of arrival.

    Raises:
        ValueError: the policy is not empty, or a request has no token to append.
    """

    def __init__(self, policy: PagePool | Reserved, requests: Iterable[Request]) -> None:
        if policy.num_seqs:
            raise ValueError(f"policy holds {policy.num_seqs} sequences and must be empty: free them first")
        self.batch = Lockstep(policy)
        self.refused: list[Request] = []
        self._waiting: deque[Request] = deque()
        for request in requests:
            (self._waiting if self._can_end(request) else self.refused).append(request)

    @property
    def is_loaded(self) -> bool:
        """Whether requests still wait for admission."""
        return bool(self._waiting)

    @property
    def counters(self) -> Mapping[str, int]:
        """The counters of the batch, and ``refused``."""
        return {**self.batch.counters, "refused": len(self.refused)}

    def steps(self) -> Iterator[SlotSplit]:
        """Run until all requests are served. Yield the split of the pool in each step, before sequences are freed.

        External fragmentation is relative to the request that is at the head of the queue in that step.
        """
        batch, policy, waiting = self.batch, self.batch.policy, self._waiting
        memory_was_freed = True
        while waiting or batch.num_seqs:
            if memory_was_freed:
                self._admit_waiting()
            preempted = batch.grow()
            waiting.extendleft(preempted)
            yield policy.split(waiting[0].num_tokens, waiting[0].final_len) if waiting else policy.split()
            memory_was_freed = bool(batch.retire() or preempted)

    def _admit_waiting(self) -> None:
        batch, policy, waiting = self.batch, self.batch.policy, self._waiting
        while waiting:
            seq_id, num_tokens, final_len = waiting[0]
            if policy.can_admit(num_tokens, final_len) is not Admission.NOW:
                return
            policy.admit(seq_id, num_tokens, final_len)
            batch.join(seq_id)
            waiting.popleft()

    def _can_end(self, request: Request) -> bool:
        seq_id, num_tokens, final_len = request
        if final_len <= num_tokens:
            raise ValueError(f"final_len={final_len} of request {seq_id} must be above its num_tokens={num_tokens}")
        can_admit = self.batch.policy.can_admit
        return Admission.NEVER not in (can_admit(num_tokens, final_len), can_admit(final_len, final_len))
