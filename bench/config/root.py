"""One composed configuration: root scalars and one object per group; and what all scenarios have in common."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any

from bench.config.checks import at_least, one_of
from bench.config.cost import CostConfig
from bench.config.groups import HardwareConfig, ImplConfig, MeasureConfig, PlanConfig, PolicyConfig
from bench.config.units import parse_bytes
from bench.config.workloads import Workload
from impls.spec import ModelSpec

PAGE_LAYOUTS = ("contiguous", "interleaved", "shuffled", "aged", "shared_prefix")
DEVICES = ("auto", "cpu", "cuda")
MAX_PAGE_SIZE = 1024


@dataclass(frozen=True, kw_only=True)
class AnyScenario:
    """What the YAML of every scenario declares; a scenario adds its own parameters in a class of its own.

    The class of a scenario is named by ``target``, and only a process that builds such a ``Config`` imports it.
    So the sources of one scenario do not depend on the parameters of another (see ``bench.plan.code_hash``).
    """

    name: str
    target: str = ""  # "package.module.Class" of its parameters, a subclass of this class; ``build`` requires it
    predict: str = ""  # "module:function", called when planned; empty: its parameters are all there is to check
    processes: tuple[str, ...] = ()  # "module:function" of each process of a point, in order
    tensors: bool = False
    ignores: tuple[str, ...] = ()  # root names without effect on it, null in its key

    @property
    def models_time(self) -> bool:
        """Whether its seconds come from the cost model, and so from the model's weights too."""
        return False

    @property
    def uses_weights(self) -> bool:
        """Whether the number of the model's weights has an effect."""
        return self.models_time

    @property
    def ignored_roots(self) -> tuple[str, ...]:
        """Root names without effect on it as it is set, null in its key."""
        return self.ignores

    @property
    def computes_reference(self) -> bool:
        """Whether a float32 reference is computed from the K and V of all sequences."""
        return False

    def layers_of(self, model: ModelSpec) -> int:
        """Layers that get storage."""
        return 0

    def without_effect(self, config: Config) -> tuple[str, ...]:
        """Parameters of its own without effect on this point, left out of its key."""
        return ()

    def check(self, config: Config) -> None:
        """Check what only the whole configuration tells.

        Raises:
            ValueError: a field does not go with the rest.
        """


@dataclass(frozen=True, kw_only=True)
class Config:
    """One composed configuration: a point of a sweep, and how to run it."""

    page_size: int
    num_seqs: int
    memory_budget: str  # "auto", or a size such as "4GiB"; KV cache only, all layers
    page_layout: str
    seed: int
    replicates: int
    device: str
    run_dir: str | None
    timeout_s: float
    resume: str | None
    resume_mixed: bool
    dry_run: bool
    draw: bool = True
    job: str | None
    plan: PlanConfig
    impl: ImplConfig
    policy: PolicyConfig
    model: ModelSpec
    workload: Workload
    scenario: AnyScenario
    measure: MeasureConfig
    hardware: HardwareConfig
    cost: CostConfig

    def __post_init__(self) -> None:
        if not 1 <= self.page_size <= MAX_PAGE_SIZE:
            raise ValueError(f"page_size={self.page_size} must be between 1 and {MAX_PAGE_SIZE} tokens")
        at_least(self, "", num_seqs=1, seed=0, replicates=1)
        if self.timeout_s <= 0:
            raise ValueError(f"timeout_s={self.timeout_s} must be above 0")
        one_of(self.page_layout, PAGE_LAYOUTS, "page_layout")
        one_of(self.device, DEVICES, "device")
        if self.memory_budget != "auto":
            parse_bytes(self.memory_budget, "memory_budget")
        self.scenario.check(self)

    @property
    def layers_allocated(self) -> int:
        """Layers whose K and V get storage."""
        return self.scenario.layers_of(self.model)

    def to_json(self) -> dict[str, Any]:
        """Plain containers that ``build`` takes back."""
        plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        return plain
