"""Group ``scenario``: parameters of notebook."""

from __future__ import annotations

import typing
from dataclasses import dataclass

from bench.config.checks import at_least, each_at_least
from bench.config.root import AnyScenario, Config

MAX_LEGACY_SEED = 2**32 - 1
"""The largest seed of NumPy's legacy generator, which the notebook uses."""


@dataclass(frozen=True, kw_only=True)
class NotebookScenario(AnyScenario):
    """Run the notebook's five experiments. Names and defaults of the fields are those of the notebook."""

    name: typing.Literal["notebook"] = "notebook"
    num_sequences: int = 100
    max_seq_length: int = 1024  # lengths are uniform in 10 .. max_seq_length
    hidden_dim: int = 64  # elements per token; the notebook measures memory in elements
    page_size: int = 16
    num_sequences_list: tuple[int, ...] = (10, 20, 50, 100, 200)
    page_sizes: tuple[int, ...] = (4, 8, 16, 32, 64, 128)
    memory_sizes: tuple[float, ...] = (1e6, 2e6, 5e6, 1e7, 2e7, 5e7)  # elements

    def __post_init__(self) -> None:
        at_least(self, "scenario.", num_sequences=0, max_seq_length=10, hidden_dim=1, page_size=1)
        each_at_least("scenario.num_sequences_list", self.num_sequences_list, 0)
        each_at_least("scenario.page_sizes", self.page_sizes, 1)
        each_at_least("scenario.memory_sizes", self.memory_sizes, 0)

    def check(self, config: Config) -> None:
        """Check that the seed fits into the 32 bits of NumPy's legacy generator."""
        if config.seed > MAX_LEGACY_SEED:
            raise ValueError(f"seed={config.seed} must be at most {MAX_LEGACY_SEED} for scenario=notebook")
