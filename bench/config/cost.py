"""Group ``cost``: constants of the cost model, which computes how long a serving step takes on a named GPU."""

from __future__ import annotations

import math
from dataclasses import dataclass

from bench.config.checks import at_least
from impls.spec import ModelSpec


@dataclass(frozen=True, kw_only=True)
class CostConfig:
    """Constants of the cost model. The YAML files in ``conf/cost/`` give their sources.

    Rates are those of the data sheet of one GPU. The field after a rate is the fraction of it that a step reaches.
    """

    name: str
    gpu: str = ""  # GPU that the constants describe
    num_gpus: int = 1  # tensor parallel: weights and heads are divided among the GPUs
    read_gbps: float | None = None  # memory bandwidth of one GPU, 10⁹ bytes/s
    read_ratio: float | None = None  # fraction of read_gbps that is reached
    tflops: float | None = None  # dense half-precision rate of one GPU, 10¹² operations/s
    compute_ratio: float | None = None  # fraction of tflops that is reached
    link_gbps: float | None = None  # between two GPUs, one direction, 10⁹ bytes/s (required if num_gpus > 1)
    host_gbps: float | None = None  # between GPU and host, one direction, 10⁹ bytes/s (used by swapping)
    host_copy_us: float | None = None  # fixed time of each copy to or from the host, added to the time of its bytes
    step_overhead_us: float | None = None  # fixed time of every step
    slowdown: float = 1.0  # factor on the time of every step
    rows: str | None = None  # run folder of scenario=decode on this GPU, whose measured times replace modelled ones
    implementation: str | None = None  # implementation whose rows are used if the folder has several

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
        """Check that no constant is missing that the time of a step of this model requires.

        Raises:
            ValueError: a constant is missing, or the model cannot be divided among the GPUs.
        """
        needed = ["read_gbps", "read_ratio", "tflops", "compute_ratio", "host_gbps", "host_copy_us", "step_overhead_us"]
        needed += ["link_gbps"] if self.num_gpus > 1 else []
        missing = [name for name in needed if getattr(self, name) is None]
        if missing:
            raise ValueError(f"cost.{missing[0]} is missing. cost={self.name} requires it for the time of a step")
        if model.num_parameters < 1:
            raise ValueError(
                f"model.num_parameters={model.num_parameters} must be at least 1: "
                f"a step of model={model.name} reads the weights"
            )
        if model.num_kv_heads % self.num_gpus:
            raise ValueError(
                f"cost.num_gpus={self.num_gpus} must divide model.num_kv_heads={model.num_kv_heads} of {model.name}"
            )
