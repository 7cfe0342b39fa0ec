"""The two simulators of the notebook, driven by our policies.

Our policies hold the memory. The notebook's own numbers are a ``Tally`` beside them, which only grows,
because freeing a sequence does not lower it. The random draws follow the order of the notebook and use
NumPy's legacy generator, so that a seed gives the notebook's numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from numpy.random import RandomState

from impls.interface import Admission, CacheUsage, Policy
from impls.policies import PagePool, Reserved
from impls.spec import ceil_div

SHORTEST_SEQUENCE = 10
COMPLETION_PROBABILITY = 0.3
ASSUMED_UTILISATION = 0.6  # share of max_seq_length. Its own lengths average half
EXTRA_CAPACITY = 1.2

Numbers = dict[str, float]
"""Results by the notebook's names, with ``int`` where the notebook has ``int``."""


@dataclass(kw_only=True)
class Tally:
    """Memory that was ever allocated, and the part of it that was wasted. It never falls."""

    allocated: int = 0
    wasted: int = 0

    def add(self, allocated: int, wasted: int) -> None:
        """Count one more allocation, in elements."""
        self.allocated += allocated
        self.wasted += wasted

    @property
    def efficiency(self) -> float:
        """Share of allocated memory that was not wasted. 0 if none was allocated."""
        return 1 - (self.wasted / self.allocated) if self.allocated > 0 else 0


@dataclass(frozen=True, kw_only=True)
class Simulation:
    """The notebook's results of a simulation, and the exact state at its end.

    Attributes:
        results: the notebook's numbers, by its names.
        usage: exact split of the policy's pool, in elements (``hidden_dim`` per token).
        dropped: sequences that found no memory. The notebook drops them silently.
    """

    results: Numbers
    usage: CacheUsage
    dropped: int

    @property
    def held(self) -> int:
        """Elements that the sequences hold at the end, used or not."""
        return self.usage.pool_bytes - self.usage.free_bytes - self.usage.external_fragmentation_bytes

    @property
    def exact_efficiency(self) -> float:
        """Live elements / held elements at the end. 0 if nothing is held."""
        return self.usage.live_bytes / self.held if self.held else 0.0


@dataclass(kw_only=True)
class _Arrivals:
    """Sequences that enter a policy one by one, while some of them leave."""

    policy: Policy
    random: RandomState
    max_seq_length: int
    active: list[int] = field(default_factory=list)

    def draw_length(self) -> int:
        """Return the tokens of the next sequence, with the highest value included."""
        return self.random.randint(SHORTEST_SEQUENCE, self.max_seq_length + 1)

    def admit(self, seq_id: int, num_tokens: int) -> bool:
        """Admit a sequence. Return whether it found memory for all of its tokens."""
        if self.policy.can_admit(num_tokens, num_tokens) is not Admission.NOW:
            return False
        self.policy.admit(seq_id, num_tokens, num_tokens)
        self.active.append(seq_id)
        return True

    def complete_one_at_random(self) -> None:
        """Free one active sequence with the notebook's probability."""
        if self.random.random_sample() < COMPLETION_PROBABILITY:
            self.policy.free(self.active.pop(self.random.randint(0, len(self.active))))


def simulate_traditional(num_sequences: int, max_seq_length: int, hidden_dim: int, random: RandomState) -> Simulation:
    """Run the notebook's ``simulate_traditional_kv_cache``: our ``reserved_max`` in a pool that never fills."""
    num_slots = max(num_sequences, 1) * max_seq_length
    arrivals = _Arrivals(
        policy=Reserved(num_slots, max_seq_length, hidden_dim, estimate="max"),
        random=random,
        max_seq_length=max_seq_length,
    )
    tally = Tally()
    for seq_id in range(num_sequences):
        num_tokens = arrivals.draw_length()
        arrivals.admit(seq_id, num_tokens)
        tally.add(max_seq_length * hidden_dim, (max_seq_length - num_tokens) * hidden_dim)
        if seq_id > 0:  # the notebook never completes a sequence right after the first
            arrivals.complete_one_at_random()
    results: Numbers = {
        "total_allocated": tally.allocated,
        "wasted_memory": tally.wasted,
        "efficiency": tally.efficiency,
        "active_sequences": arrivals.policy.num_seqs,
    }
    return Simulation(results=results, usage=arrivals.policy.usage(), dropped=0)


def simulate_paged(
    num_sequences: int, max_seq_length: int, hidden_dim: int, page_size: int, random: RandomState
) -> Simulation:
    """Run the notebook's ``simulate_paged_attention``: our page pool, of the size that the notebook guesses."""
    num_pages = guessed_pages(num_sequences, max_seq_length, page_size)
    pool = PagePool(max(num_pages, 1), page_size, hidden_dim)  # without sequences, one unused page
    arrivals = _Arrivals(policy=pool, random=random, max_seq_length=max_seq_length)
    tally, dropped = Tally(), 0
    for seq_id in range(num_sequences):
        num_tokens = arrivals.draw_length()
        if arrivals.admit(seq_id, num_tokens):
            held = ceil_div(num_tokens, page_size) * page_size
            tally.add(held * hidden_dim, (held - num_tokens) * hidden_dim)
        else:
            dropped += 1
        if arrivals.active:
            arrivals.complete_one_at_random()
    results: Numbers = {
        "total_capacity": num_pages * page_size * hidden_dim,
        "used_capacity": tally.allocated,
        "wasted_capacity": tally.wasted,
        "efficiency": tally.efficiency,
        "active_sequences": pool.num_seqs,
        "free_pages": num_pages - (pool.num_pages - pool.free_pages),
        "total_pages": num_pages,
    }
    return Simulation(results=results, usage=pool.usage(), dropped=dropped)


def guessed_pages(num_sequences: int, max_seq_length: int, page_size: int) -> int:
    """Return the pages of the notebook's pool: 60 % of the longest lengths, and a fifth more."""
    total_tokens = num_sequences * max_seq_length * ASSUMED_UTILISATION
    return int((total_tokens + page_size - 1) // page_size * EXTRA_CAPACITY)


def estimate_concurrency(max_memory: int, max_seq_length: int, hidden_dim: int, page_size: int) -> tuple[int, float]:
    """Run the notebook's ``simulate_concurrent_requests``, which computes sequences by division.

    Returns:
        Contiguous and paged numbers. The latter are whole numbers of type ``float``, as in the notebook.
    """
    pages_per_seq = (max_seq_length * ASSUMED_UTILISATION + page_size - 1) // page_size
    total_pages = max_memory // (page_size * hidden_dim)
    return max_memory // (max_seq_length * hidden_dim), total_pages // pages_per_seq


def count_concurrent(policy: Policy, max_seq_length: int, random: RandomState) -> int:
    """Return how many sequences of the notebook's lengths a policy holds, by admitting until it refuses."""
    arrivals = _Arrivals(policy=policy, random=random, max_seq_length=max_seq_length)
    while arrivals.admit(policy.num_seqs, arrivals.draw_length()):
        pass
    return policy.num_seqs
