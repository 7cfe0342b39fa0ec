"""The whole configuration as frozen dataclasses, checked once, without torch or Hydra.

``Config`` mirrors ``conf/``: root scalars and one object per group. A group whose options have
different fields is a union, told apart by ``name``. ``build`` makes a ``Config`` of plain
containers (a composed Hydra config, or ``plan.json``) and says in one sentence what is wrong.
"""

from bench.config.building import build, known_keys, resolve_types, unknown_key
from bench.config.checks import one_of
from bench.config.cost import CostConfig
from bench.config.groups import MeasureConfig, PolicyConfig
from bench.config.root import Config
from bench.config.scenarios import (
    CacheScenario,
    CapacityScenario,
    ChurnScenario,
    LengthsScenario,
    NotebookScenario,
    PrefillScenario,
    PrefixCacheScenario,
    SwapScenario,
)
from bench.config.serving import ServingScenario
from bench.config.workloads import (
    FixedWorkload,
    LognormalWorkload,
    QuantileWorkload,
    TraceWorkload,
    UniformWorkload,
    Workload,
)

__all__ = [
    "CacheScenario",
    "CapacityScenario",
    "ChurnScenario",
    "Config",
    "CostConfig",
    "FixedWorkload",
    "LengthsScenario",
    "LognormalWorkload",
    "MeasureConfig",
    "NotebookScenario",
    "PolicyConfig",
    "PrefillScenario",
    "PrefixCacheScenario",
    "QuantileWorkload",
    "ServingScenario",
    "SwapScenario",
    "TraceWorkload",
    "UniformWorkload",
    "Workload",
    "build",
    "known_keys",
    "one_of",
    "resolve_types",
    "unknown_key",
]
