"""Scenario ``notebook``: the five experiments of the notebook with its numbers, and exact numbers beside them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from numpy.random import RandomState

from bench.config import build
from bench.config.notebook import NotebookScenario
from bench.rows.result import Answer
from bench.scenarios.notebook.simulators import (
    Simulation,
    count_concurrent,
    estimate_concurrency,
    simulate_paged,
    simulate_traditional,
)
from impls.interface import Policy
from impls.policies import PagePool, Reserved

MOST_UNITS_TO_FILL = 10_000_000
"""Pages or slots of the largest pool that is filled to count. The notebook divides, without such a limit."""


def run_notebook(argument: Mapping[str, Any]) -> Answer:
    """Run the five experiments, each from a freshly seeded generator.

    Args:
        argument: ``config`` (resolved, plain containers).

    Returns:
        ``notebook.json`` as an artifact: results by the notebook's function names and result names.
        The row has the exact split of the pool of the paged simulation and both kinds of efficiency.
        Its column ``curves`` has the lists behind the notebook's three plots, with ``*_exact`` beside them.
    """
    config = build(argument["config"])
    assert isinstance(config.scenario, NotebookScenario)
    experiments = _Experiments(config.scenario, config.seed)
    traditional, paged = experiments.traditional(), experiments.paged()
    compared, used = experiments.compare_memory_efficiency()
    by_page_size = experiments.analyze_page_size_impact()
    concurrent = experiments.simulate_concurrent_requests()
    curves = compared.with_exact() | used.with_exact() | by_page_size.with_exact() | concurrent.with_exact()
    axes = {name: getattr(config.scenario, name) for name in ("num_sequences_list", "page_sizes", "memory_sizes")}
    return Answer(
        values={**_row(config.scenario, traditional, paged), "curves": json.dumps({**axes, **curves})},
        artifacts={
            "notebook": {
                "simulate_traditional_kv_cache": traditional.results,
                "simulate_paged_attention": paged.results,
                "compare_memory_efficiency": compared.notebook,
                "analyze_page_size_impact": by_page_size.notebook,
                "simulate_concurrent_requests": concurrent.notebook,
            }
        },
    )


@dataclass(frozen=True, kw_only=True)
class Curves:
    """Lists by the notebook's names, and exact numbers at the same places."""

    notebook: dict[str, list[float]]
    exact: dict[str, list[float | None]]

    def with_exact(self) -> dict[str, list[Any]]:
        """Return all lists by name, the exact ones with a suffix."""
        return self.notebook | {f"{name}_exact": values for name, values in self.exact.items()}


class _Experiments:
    """The experiments of the notebook. Every method seeds its own generator."""

    def __init__(self, scenario: NotebookScenario, seed: int) -> None:
        self.scenario = scenario
        self.seed = seed

    def traditional(self) -> Simulation:
        return self._traditional(self.scenario.num_sequences, RandomState(self.seed))

    def paged(self) -> Simulation:
        return self._paged(self.scenario.num_sequences, self.scenario.page_size, RandomState(self.seed))

    def compare_memory_efficiency(self) -> tuple[Curves, Curves]:
        """Return its lists, and the elements that its counters call used, which it does not plot."""
        random = RandomState(self.seed)
        pairs = [
            (self._traditional(number, random), self._paged(number, self.scenario.page_size, random))
            for number in self.scenario.num_sequences_list
        ]
        traditional, paged = [one for one, _ in pairs], [two for _, two in pairs]
        used = Curves(
            notebook={
                "total_allocated": [one.results["total_allocated"] for one in traditional],
                "used_capacity": [one.results["used_capacity"] for one in paged],
            },
            exact={
                "total_allocated": [one.held for one in traditional],
                "used_capacity": [one.held for one in paged],
            },
        )
        return _efficiencies({"traditional_efficiency": traditional, "paged_efficiency": paged}), used

    def analyze_page_size_impact(self) -> Curves:
        random = RandomState(self.seed)
        simulations = [
            self._paged(self.scenario.num_sequences, page_size, random) for page_size in self.scenario.page_sizes
        ]
        return _efficiencies({"efficiency_results": simulations})

    def simulate_concurrent_requests(self) -> Curves:
        sizes = [int(size) for size in self.scenario.memory_sizes]
        shape = (self.scenario.max_seq_length, self.scenario.hidden_dim, self.scenario.page_size)
        estimates = [estimate_concurrency(size, *shape) for size in sizes]
        return Curves(
            notebook={
                "trad_concurrent": [contiguous for contiguous, _ in estimates],
                "paged_concurrent": [paged for _, paged in estimates],
            },
            exact={
                "trad_concurrent": [self._count(size, self.scenario.hidden_dim, self._reserved) for size in sizes],
                "paged_concurrent": [
                    self._count(size, self.scenario.page_size * self.scenario.hidden_dim, self._pool) for size in sizes
                ],
            },
        )

    def _traditional(self, num_sequences: int, random: RandomState) -> Simulation:
        return simulate_traditional(num_sequences, self.scenario.max_seq_length, self.scenario.hidden_dim, random)

    def _paged(self, num_sequences: int, page_size: int, random: RandomState) -> Simulation:
        shape = (num_sequences, self.scenario.max_seq_length, self.scenario.hidden_dim)
        return simulate_paged(*shape, page_size, random)

    def _count(self, max_memory: int, unit: int, make: Callable[[int], Policy]) -> int | None:
        """Return how many sequences of the notebook's lengths ``max_memory`` elements hold at once."""
        units = max_memory // unit
        if units > MOST_UNITS_TO_FILL:
            return None
        return count_concurrent(make(units), self.scenario.max_seq_length, RandomState(self.seed)) if units else 0

    def _reserved(self, num_slots: int) -> Policy:
        return Reserved(num_slots, self.scenario.max_seq_length, self.scenario.hidden_dim, estimate="max")

    def _pool(self, num_pages: int) -> Policy:
        return PagePool(num_pages, self.scenario.page_size, self.scenario.hidden_dim)


def _efficiencies(simulations: Mapping[str, list[Simulation]]) -> Curves:
    return Curves(
        notebook={name: [one.results["efficiency"] for one in series] for name, series in simulations.items()},
        exact={name: [one.exact_efficiency for one in series] for name, series in simulations.items()},
    )


def _row(scenario: NotebookScenario, traditional: Simulation, paged: Simulation) -> dict[str, Any]:
    """Return the final pool of the paged simulation, and the notebook's numbers beside the exact ones."""
    usage = paged.usage
    parts = ("pool", "live", "reserved", "internal_fragmentation", "external_fragmentation", "cached", "free",
             "shared_saved")  # fmt: skip
    return {
        "num_seqs": scenario.num_sequences,
        "page_size": scenario.page_size,
        "admitted_seqs": scenario.num_sequences - paged.dropped,
        "refused_seqs": paged.dropped,
        "live_tokens": usage.live_bytes // scenario.hidden_dim,
        **{f"{part}_bytes": getattr(usage, f"{part}_bytes") for part in parts},
        "largest_free_ratio": usage.largest_free_ratio,
        "contiguous_cumulative_ratio": traditional.results["efficiency"],
        "contiguous_exact_ratio": traditional.exact_efficiency,
        "paged_cumulative_ratio": paged.results["efficiency"],
        "paged_exact_ratio": paged.exact_efficiency,
    }
