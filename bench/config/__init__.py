"""The configuration as frozen dataclasses that are checked once.

This room imports ``impls.spec`` and ``impls.interface``, and no other room of ``bench/``. It must not import torch.

``Config`` mirrors ``conf/``: root scalars and one object per group. A group whose options have different fields is a
union of classes, and the field ``name`` selects one of them. ``build`` makes a ``Config`` from plain containers: a
composed Hydra configuration or ``plan.json``. It raises ``ValueError`` with one sentence about the first wrong field.

The parameters of a scenario are a class that its YAML file names in ``scenario.target``. This package does not import
these classes. A process therefore imports only the parameters of its own scenario.
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
