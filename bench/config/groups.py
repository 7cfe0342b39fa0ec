"""Groups in which all options have the same fields: impl, policy, measure, hardware and plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bench.config.checks import at_least, class_name, one_of
from impls.interface import ARENAS, POLICY_KINDS, PolicyKind

TIMERS = ("auto", "events", "graph", "cupti", "perf_counter")


@dataclass(frozen=True, kw_only=True)
class ImplConfig:
    """One entry of the registry: the class of an implementation and its declarations."""

    name: str
    target: str  # "package.module.Class"
    policies: tuple[str, ...]  # supported policies, the default first
    devices: tuple[str, ...] = ("cpu", "cuda")
    ignores: tuple[str, ...] = ()  # parameters without effect on this implementation, null in its key
    requires: tuple[str, ...] = ()  # import names of required packages other than torch
    loads_dead_slots: bool = False  # the kernel loads and masks slots that hold no token: their content must be finite
    limits: str = ""  # cases that it does not support on a supported device, as text for the documentation
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        class_name(self.target, "impl.target")
        if not self.policies:
            raise ValueError(f"impl.policies=[] of impl={self.name} must name at least one policy")


@dataclass(frozen=True, kw_only=True)
class PolicyConfig:
    """A memory policy and its parameters. ``name=auto`` selects the first policy of the implementation."""

    name: str
    watermark: float = 0.0  # paged policies only: fraction of the pool that admission keeps free
    arena: str = "first_fit"  # reserved policies only: how a free region is found
    ignores: tuple[str, ...] = ()  # root names without effect on this policy, null in the key
    target: str = ""  # "package.module.Class" of a policy that is not one of POLICY_KINDS
    kind: str = ""  # of such a policy: reserved, paged or prefix

    def __post_init__(self) -> None:
        if not 0 <= self.watermark < 1:
            raise ValueError(f"policy.watermark={self.watermark} must be at least 0 and below 1")
        one_of(self.arena, ARENAS, "policy.arena")
        if self.target:
            class_name(self.target, "policy.target")
            if self.name in (*POLICY_KINDS, "auto"):
                raise ValueError(
                    f"policy.target={self.target} requires a name of its own (got policy.name={self.name})"
                )
            one_of(self.kind, [kind.value for kind in PolicyKind], "policy.kind")

    @property
    def has_pages(self) -> bool:
        """Whether the policy takes memory in pages.

        Raises:
            ValueError: the policy is unknown, or it is ``auto`` and not resolved yet.
        """
        if self.target:
            return PolicyKind(self.kind).has_pages
        one_of(self.name, POLICY_KINDS, "policy.name")
        return POLICY_KINDS[self.name].has_pages

    @property
    def without_effect(self) -> tuple[str, ...]:
        """Fields without effect on this policy."""
        return ("arena",) if self.has_pages else ("watermark",)


@dataclass(frozen=True, kw_only=True)
class MeasureConfig:
    """How samples are measured, and when measuring stops."""

    name: str
    timer: str
    warmup_ms: float
    min_samples: int
    max_s: float  # time limit for each timed quantity, seconds
    rel_half_width: float  # stop when the interval of the median has at most this half width, relative to the median
    ceiling_bytes: int  # bytes that are read to measure the bandwidth ceiling
    poll_ms: float = 0.0  # interval at which the memory process polls (0: it does not poll)
    weigh: bool = True  # whether the memory process runs (if not, its columns are null)

    def __post_init__(self) -> None:
        one_of(self.timer, TIMERS, "measure.timer")
        at_least(self, "measure.", warmup_ms=0, min_samples=5, max_s=0, ceiling_bytes=2**20, poll_ms=0)
        if not 0 < self.rel_half_width < 1:
            raise ValueError(f"measure.rel_half_width={self.rel_half_width} must be above 0 and below 1")


@dataclass(frozen=True, kw_only=True)
class HardwareConfig:
    """Facts about the device that are given in advance. The harness reads a fact from the machine if it is null."""

    name: str
    device_memory_bytes: int | None = None


@dataclass(frozen=True, kw_only=True)
class PlanConfig:
    """How the plan is made."""

    predict_oom: bool  # whether points that require more memory than the device has are skipped
