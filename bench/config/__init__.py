"""The whole configuration as frozen dataclasses, checked once, without torch or Hydra.

``Config`` mirrors ``conf/``: root scalars and one object per group. A group whose options have
different fields is a union, told apart by ``name``. ``build`` makes a ``Config`` of plain
containers (a composed Hydra config, or ``plan.json``) and says in one sentence what is wrong.

The parameters of a scenario are a class that its YAML names (``scenario.target``). This package does
not import these classes, so a process imports only the parameters of its own scenario.
"""

from bench.config.building import build, known_keys, resolve_types, unknown_key
from bench.config.checks import one_of
from bench.config.cost import CostConfig
from bench.config.groups import MeasureConfig, PolicyConfig
from bench.config.root import AnyScenario, Config
from bench.config.workloads import (
    FixedWorkload,
    LognormalWorkload,
    QuantileWorkload,
    TraceWorkload,
    UniformWorkload,
    Workload,
)

__all__ = [
    "AnyScenario",
    "Config",
    "CostConfig",
    "FixedWorkload",
    "LognormalWorkload",
    "MeasureConfig",
    "PolicyConfig",
    "QuantileWorkload",
    "TraceWorkload",
    "UniformWorkload",
    "Workload",
    "build",
    "known_keys",
    "one_of",
    "resolve_types",
    "unknown_key",
]
