"""What a scenario may read of the whole configuration when it checks itself."""

from __future__ import annotations

from typing import Protocol

from bench.config.cost import CostConfig
from bench.config.groups import PolicyConfig
from bench.config.workloads import Workload
from impls.spec import ModelSpec


class WholeConfig(Protocol):
    """The part of ``Config`` that a scenario depends on.

    The root configuration holds a scenario. A scenario that imported the root would close a circle of imports.
    """

    @property
    def page_layout(self) -> str:
        """Order in which a pool hands out pages."""

    @property
    def seed(self) -> int:
        """Seed of every random draw."""

    @property
    def policy(self) -> PolicyConfig:
        """Group ``policy``."""

    @property
    def model(self) -> ModelSpec:
        """Group ``model``."""

    @property
    def workload(self) -> Workload:
        """Group ``workload``."""

    @property
    def cost(self) -> CostConfig:
        """Group ``cost``."""
