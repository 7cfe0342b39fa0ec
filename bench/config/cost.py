"""Group ``cost``: how long a step of an engine takes on a named GPU."""

from __future__ import annotations

import math
from dataclasses import dataclass

from bench.config.checks import at_least
from impls.spec import ModelSpec


@dataclass(frozen=True, kw_only=True)
class CostConfig:
    """Constants of a step's time; the sources stand in the YAML files.

    A rate is what one GPU states on its data sheet; beside it stands the share of it that is reached.
    """

    name: str
    gpu: str = ""  # what the constants are of
    num_gpus: int = 1  # tensor parallel: weights, heads and their bandwidth are divided
    read_gbps: float | None = None  # memory bandwidth of one GPU, 10⁹ bytes/s
    read_ratio: float | None = None  # of it reached
    tflops: float | None = None  # dense half-precision rate of one GPU, 10¹² operations/s
    compute_ratio: float | None = None  # of it reached
    link_gbps: float | None = None  # between GPUs, one direction; needed above one GPU
    host_gbps: float | None = None  # to the host, one direction: swapping
    host_copy_us: float | None = None  # of every single copy to or from the host, beside its bytes
    step_overhead_us: float | None = None  # of every step, whatever is in it
    slowdown: float = 1.0  # every step takes so many times as long
    rows: str | None = None  # a run folder of scenario=decode on that GPU: reading K and V takes what it measured
    implementation: str | None = None  # whose rows, where the folder has several

    def __post_init__(self) -> None:
        at_least(self, "cost.", num_gpus=1)
        for name in ("read_gbps", "tflops", "link_gbps", "host_gbps"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"cost.{name}={value} must be above 0 and finite")
        for name in ("read_ratio", "compute_ratio"):
            value = getattr(self, name)
            if value is not None and not 0 < value <= 1:
                raise ValueError(f"cost.{name}={value} must be above 0 and at most 1")
        at_least(self, "cost.", host_copy_us=0, step_overhead_us=0)
        if not 0 < self.slowdown < math.inf:
            raise ValueError(f"cost.slowdown={self.slowdown} must be above 0 and finite")

    def check(self, model: ModelSpec) -> None:
        """Check that all constants are there that a step of this model needs.

        Raises:
            ValueError: one is missing; names it.
        """
        needed = ["read_gbps", "read_ratio", "tflops", "compute_ratio", "host_gbps", "host_copy_us", "step_overhead_us"]
        needed += ["link_gbps"] if self.num_gpus > 1 else []
        missing = [name for name in needed if getattr(self, name) is None]
        if missing:
            raise ValueError(f"cost.{missing[0]} is missing: cost={self.name} needs it for a step's time")
        if model.num_parameters < 1:
            raise ValueError(f"model.num_parameters is missing: a step of model={model.name} reads its weights")
        if model.num_kv_heads % self.num_gpus:
            raise ValueError(
                f"cost.num_gpus={self.num_gpus} must divide model.num_kv_heads={model.num_kv_heads} of {model.name}"
            )
