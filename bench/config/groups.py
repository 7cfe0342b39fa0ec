"""The groups whose options all have the same fields: impl, policy, measure, hardware, plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bench.config.checks import at_least, one_of
from impls.interface import ARENAS, POLICY_KINDS, PolicyKind

TIMERS = ("auto", "events", "graph", "cupti", "perf_counter")


@dataclass(frozen=True, kw_only=True)
class ImplConfig:
    """The entry of one implementation: the place of its class, and its declarations."""

    name: str
    target: str  # "package.module.Class"
    policies: tuple[str, ...]  # policies that it supports, the default first
    devices: tuple[str, ...] = ("cpu", "cuda")
    ignores: tuple[str, ...] = ()  # parameters without effect on it, null in its key
    requires: tuple[str, ...] = ()  # packages beside torch, by the names they are imported by
    loads_dead_slots: bool = False  # loads slots that no token holds, and masks them: they must be finite
    limits: str = ""  # what it may refuse on a device that it names, in words
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if "." not in self.target:
            raise ValueError(f"impl.target={self.target} must be package.module.Class")
        if not self.policies:
            raise ValueError(f"impl.policies of {self.name} is empty; name at least one policy")


@dataclass(frozen=True, kw_only=True)
class PolicyConfig:
    """Which memory policy, and its parameters. ``auto`` is the implementation's own choice."""

    name: str
    watermark: float = 0.0  # fraction of the pool that admission keeps free, paged policies only
    arena: str = "first_fit"  # how a region is found, reserved policies only
    ignores: tuple[str, ...] = ()
    target: str = ""  # "package.module.Class" of a policy that is not one of POLICY_KINDS
    kind: str = ""  # of such a policy: reserved, paged or prefix

    def __post_init__(self) -> None:
        if not 0 <= self.watermark < 1:
            raise ValueError(f"policy.watermark={self.watermark} must be at least 0 and below 1")
        one_of(self.arena, ARENAS, "policy.arena")
        if self.target:
            if self.name in (*POLICY_KINDS, "auto"):
                raise ValueError(
                    f"policy.target={self.target} requires a name of its own (got policy.name={self.name})"
                )
            one_of(self.kind, [kind.value for kind in PolicyKind], "policy.kind")

    @property
    def has_pages(self) -> bool:
        """Whether the policy takes memory in pages.

        Raises:
            ValueError: there is no such policy, or it is ``auto`` and not resolved yet.
        """
        if self.target:
            return PolicyKind(self.kind).has_pages
        one_of(self.name, POLICY_KINDS, "policy.name")
        return POLICY_KINDS[self.name].has_pages

    @property
    def without_effect(self) -> tuple[str, ...]:
        """Fields that have no effect on this policy."""
        return ("arena",) if self.has_pages else ("watermark",)


@dataclass(frozen=True, kw_only=True)
class MeasureConfig:
    """How samples are taken and when there are enough of them."""

    name: str
    timer: str
    warmup_ms: float
    min_samples: int
    max_s: float  # budget per timed quantity
    rel_half_width: float  # stop when the interval of the median is this narrow
    ceiling_bytes: int  # bytes that the bandwidth ceiling reads
    poll_ms: float = 0.0  # interval at which the memory process polls; 0: it does not
    weigh: bool = True  # false: the memory process does not run, and its columns are null

    def __post_init__(self) -> None:
        one_of(self.timer, TIMERS, "measure.timer")
        at_least(self, "measure.", warmup_ms=0, min_samples=5, max_s=0, ceiling_bytes=2**20, poll_ms=0)
        if not 0 < self.rel_half_width < 1:
            raise ValueError(f"measure.rel_half_width={self.rel_half_width} must be above 0 and below 1")


@dataclass(frozen=True, kw_only=True)
class HardwareConfig:
    """What is known of the machine beforehand; ``null`` is asked of the machine itself."""

    name: str
    device_memory_bytes: int | None = None


@dataclass(frozen=True, kw_only=True)
class PlanConfig:
    """How the plan is made."""

    predict_oom: bool  # do not run what needs more than the device has
