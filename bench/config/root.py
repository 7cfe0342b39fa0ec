"""``Config``, one composed configuration, and ``AnyScenario``, the base class of all scenario parameters."""

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
MAX_PAGE_SIZE = 4096


@dataclass(frozen=True, kw_only=True)
class AnyScenario:
    """Declarations that the YAML file of every scenario has. A scenario adds its parameters in a subclass.

    ``target`` names the subclass. Only a process that builds such a ``Config`` imports it, so the sources of one
    scenario do not depend on the parameters of another (see ``bench.plan.code_hash``).
    """

    name: str
    target: str = ""  # "package.module.Class" of the subclass with its parameters; ``build`` requires it
    predict: str = ""  # "module:function" that the planner calls; empty: only the parameters are checked
    processes: tuple[str, ...] = ()  # "module:function" of each process of a point, in order
    tensors: bool = False  # whether its processes use torch and a device
    ignores: tuple[str, ...] = ()  # root names without effect on this scenario, null in its key

    @property
    def models_time(self) -> bool:
        """Whether the cost model computes its seconds. The model's weights then have an effect."""
        return False

    @property
    def uses_weights(self) -> bool:
        """Whether the number of the model's weights has an effect."""
        return self.models_time

    @property
    def ignored_roots(self) -> tuple[str, ...]:
        """Root names without effect on this scenario with its present parameters, null in its key."""
        return self.ignores

    @property
    def computes_reference(self) -> bool:
        """Whether a float32 reference is computed from the K and V of all sequences."""
        return False

    @property
    def idle_model_fields(self) -> tuple[str, ...]:
        """Fields of the model without effect on this scenario. Those that may be null are null in its key."""
        return () if self.tensors else ("sliding_window", "soft_cap")

    def layers_of(self, model: ModelSpec) -> int:
        """Return the number of layers that get storage."""
        return 0

    def draws(self, config: Config) -> bool:
        """Return whether the seed has an effect on this point."""
        return True

    def without_effect(self, config: Config) -> tuple[str, ...]:
        """Return the scenario's parameters that have no effect on this point. Its key does not contain them."""
        return ()

    def check(self, config: Config) -> None:
        """Check fields that depend on other parts of the configuration.

        Raises:
            ValueError: a field conflicts with another part.
        """


@dataclass(frozen=True, kw_only=True)
class Config:
    """One composed configuration: the parameters of one point, and how to run it."""

    page_size: int
    num_seqs: int
    memory_budget: str  # "auto" or a size such as "4GiB": bytes of the KV cache of all layers
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
            raise ValueError(f"timeout_s={self.timeout_s} must be above 0 seconds")
        one_of(self.page_layout, PAGE_LAYOUTS, "page_layout")
        one_of(self.device, DEVICES, "device")
        if self.memory_budget != "auto":
            parse_bytes(self.memory_budget, "memory_budget")
        self.scenario.check(self)

    @property
    def layers_allocated(self) -> int:
        """The number of layers whose K and V get storage."""
        return self.scenario.layers_of(self.model)

    def to_json(self) -> dict[str, Any]:
        """Return plain containers from which ``build`` makes an equal ``Config``."""
        plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        return plain
