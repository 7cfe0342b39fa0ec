"""How the sequences of a request take, share and free memory, for each kind of policy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from bench.scenarios.filling import PREFIX_SEQ_ID
from bench.scenarios.serving.groups import Entry, Group, entry_of
from impls.interface import Admission, PoolExhausted
from impls.policies import PagePool, PrefixPool, Reserved, finds_prefixes
from impls.policies.prefix_keys import PageKey
from impls.spec import ceil_div

Keys = Callable[[Group], Sequence[PageKey]]
"""Names of the full pages of a request's prompt."""


class Memory(Protocol):
    """The memory interface of the engines. The sequences of a request enter and leave together."""

    @property
    def policy(self) -> PagePool | Reserved:
        """The policy that assigns slots."""

    def fits(self, group: Group) -> bool:
        """Return whether the request could be served to its end if it were alone."""

    def entry(self, group: Group) -> Entry:
        """Return the work of admitting the request now."""

    def try_enter(self, group: Group) -> bool:
        """Take slots for the prompt and earlier output, all or none. Return whether they were available."""

    def free(self, group: Group) -> None:
        """Free all memory of the request."""

    def cross(self, group: Group, forks: Sequence[tuple[int, int]]) -> int:
        """Let beams become copies of others. Return the slots that must be copied now."""


class ReservedMemory:
    """Contiguous regions: every sequence has its own, and a beam that crosses copies a whole region.

    Args:
        policy: an empty reservation.
    """

    def __init__(self, policy: Reserved) -> None:
        self.policy = policy

    def fits(self, group: Group) -> bool:
        """Return whether all of its regions fit into the empty pool."""
        if len(group.seq_ids) == 1:
            return self.policy.can_admit(group.prompt, group.final_len) is not Admission.NEVER
        entered = self.try_enter(group)
        if entered:
            self._give_back(group.seq_ids)
        return entered

    def entry(self, group: Group) -> Entry:
        """Return the work: the prompt is computed once and copied to every region."""
        return entry_of(group, 0)

    def try_enter(self, group: Group) -> bool:
        """Reserve a region per sequence, or none."""
        policy = self.policy
        for taken, seq_id in enumerate(group.seq_ids):
            if policy.can_admit(group.prompt, group.final_len) is not Admission.NOW:
                self._give_back(group.seq_ids[:taken])
                return False
            policy.admit(seq_id, group.prompt, group.final_len)
        return True

    def _give_back(self, seq_ids: Sequence[int]) -> None:
        """Free regions that were just taken, last first, so that the next region is found as if none was taken."""
        for seq_id in reversed(seq_ids):
            self.policy.free(seq_id)

    def free(self, group: Group) -> None:
        """Free every region."""
        for seq_id in group.seq_ids:
            self.policy.free(seq_id)

    def cross(self, group: Group, forks: Sequence[tuple[int, int]]) -> int:
        """Copy the whole region of the parent to a beam that becomes its copy, as the baselines of the paper do."""
        return sum(self.policy.region(group.seq_ids[parent])[1] for parent, _ in forks)


class PagedMemory:
    """Pages: the sequences of a request share the pages of the prompt, and requests share a prefix.

    Args:
        pool: an empty page pool.
        prefix_tokens: tokens of a common prefix. It is held once and permanently, unless ``keys`` find it again.
        keys: names of a prompt's full pages, for a ``PrefixPool``.

    Raises:
        ValueError: the pool does not hold the prefix.
    """

    def __init__(self, pool: PagePool, prefix_tokens: int = 0, keys: Keys | None = None) -> None:
        self.policy = pool
        self._prefixes = pool if finds_prefixes(pool) else None
        self._keys = keys
        self._pinned = 0 if self._prefixes is not None else prefix_tokens
        if self._pinned:
            try:
                pool.admit(PREFIX_SEQ_ID, self._pinned)
            except PoolExhausted as error:
                raise ValueError(f"scenario.shared_prefix_tokens={prefix_tokens}: {error}") from error
        self._capacity = pool.available_pages

    def fits(self, group: Group) -> bool:
        """Return whether it fits at its fullest, above the watermark and with a spare page per sequence."""
        pages = self._pages(group, group.final_len - 1)
        return pages + self.policy.kept_pages + len(group.seq_ids) <= self._capacity

    def entry(self, group: Group) -> Entry:
        """Return the work. Tokens of the prompt that are in the pool are not computed."""
        if self._prefixes is not None and self._keys is not None:
            return entry_of(group, len(self._prefixes.match(self._keys(group))) * self.policy.page_size)
        return entry_of(group, self._pinned)

    def try_enter(self, group: Group) -> bool:
        """Take pages for the prompt once, and for the tokens of each sequence."""
        pool, first = self.policy, group.seq_ids[0]
        if self._prefixes is not None and self._keys is not None:
            return self._enter_by_keys(self._prefixes, self._keys(group), group)
        if self._pages(group, group.stored) + pool.kept_pages > pool.available_pages:
            return False
        if self._pinned:
            pool.fork(PREFIX_SEQ_ID, first, group.final_len)
            pool.append(first, group.prompt - self._pinned)
        else:
            pool.admit(first, group.prompt, group.final_len)
        self._fork_and_grow(group)
        return True

    def free(self, group: Group) -> None:
        """Free every page without another owner."""
        for seq_id in group.seq_ids:
            self.policy.free(seq_id)

    def cross(self, group: Group, forks: Sequence[tuple[int, int]]) -> int:
        """Share the pages of the parent with a beam that becomes its copy. Later appends copy what they must."""
        for parent, child in forks:
            self.policy.follow(group.seq_ids[child], group.seq_ids[parent])
        return 0

    def _enter_by_keys(self, pool: PrefixPool, keys: Sequence[PageKey], group: Group) -> bool:
        beyond = self._pages(group, group.stored) - ceil_div(group.prompt, pool.page_size)
        if pool.pages_to_admit(group.prompt, keys) + beyond + pool.kept_pages > pool.available_pages:
            return False
        pool.admit(group.seq_ids[0], group.prompt, group.final_len, keys=keys)
        self._fork_and_grow(group)
        return True

    def _fork_and_grow(self, group: Group) -> None:
        pool, (first, *others) = self.policy, group.seq_ids
        for seq_id in others:
            pool.fork(first, seq_id)
        if group.generated:
            for seq_id in group.seq_ids:
                pool.append(seq_id, group.generated)

    def _pages(self, group: Group, num_tokens: int) -> int:
        """Return the pages of a request whose sequences have ``num_tokens`` each and share only the prompt."""
        size = self.policy.page_size
        pinned = self._pinned // size
        if num_tokens == group.prompt or len(group.seq_ids) == 1:
            return ceil_div(num_tokens, size) - pinned
        shared = group.prompt // size
        return shared - pinned + len(group.seq_ids) * (ceil_div(num_tokens, size) - shared)
