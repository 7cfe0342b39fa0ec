"""The whole configuration as frozen dataclasses, checked once, without torch or Hydra.

``Config`` mirrors ``conf/``: root scalars and one object per group. A group whose options have
different fields is a union, told apart by ``name``. ``build`` makes a ``Config`` of plain
containers (a composed Hydra config, or ``plan.json``) and says in one sentence what is wrong.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from bench.units import parse_bytes
from impls.spec import ModelSpec

PAGE_LAYOUTS = ("contiguous", "interleaved", "shuffled", "aged", "shared_prefix")
DEVICES = ("auto", "cpu", "cuda")
ARENAS = ("first_fit", "buddy")
TIMERS = ("auto", "events", "graph", "cupti", "perf_counter")
MAX_PAGE_SIZE = 1024


def at_least(obj: object, path: str, **least: float) -> None:
    """Check lower bounds of an object's fields.

    Raises:
        ValueError: a field is below its bound; names field, value and bound.
    """
    for name, bound in least.items():
        value = getattr(obj, name)
        if value is not None and value < bound:
            raise ValueError(f"{path}{name}={value} must be at least {bound}")


def each_within(path: str, values: Iterable[float], *, least: float) -> None:
    """Check every item of a list: finite and not below a bound.

    Raises:
        ValueError: an item is not; names the field, the item's place and value, and the bound.
    """
    for place, value in enumerate(values):
        if not (math.isfinite(value) and value >= least):
            raise ValueError(f"{path}[{place}]={value} must be at least {least} and finite")


def one_of(value: str, allowed: Iterable[str], path: str) -> None:
    """Check a choice.

    Raises:
        ValueError: names field, value, the options and the nearest one.
    """
    allowed = list(allowed)
    if value not in allowed:
        near = difflib.get_close_matches(value, allowed, n=1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise ValueError(f"{path}={value} is not known{hint}; choose one of {', '.join(allowed)}")


@dataclass(frozen=True, kw_only=True)
class ImplConfig:
    """One line of the registry: where an implementation's class is and what it declares."""

    name: str
    target: str  # "package.module.Class"
    policies: tuple[str, ...]  # those it can stand on; the first is its default
    devices: tuple[str, ...] = ("cpu", "cuda")
    ignores: tuple[str, ...] = ()  # parameters without effect on it, null in its key
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
    watermark: float = 0.0  # fraction of the pool that admission keeps free; paged policies only
    arena: str = "first_fit"  # how a region is found; reserved policies only
    ignores: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.watermark < 1:
            raise ValueError(f"policy.watermark={self.watermark} must be at least 0 and below 1")
        one_of(self.arena, ARENAS, "policy.arena")

    @property
    def without_effect(self) -> tuple[str, ...]:
        """Fields that this policy does not heed."""
        return ("watermark",) if self.name.startswith("reserved") else ("arena",)


@dataclass(frozen=True, kw_only=True)
class FixedWorkload:
    """Every sequence has exactly ``length`` tokens in its cache."""

    name: typing.Literal["fixed"] = "fixed"
    length: int = 512

    def __post_init__(self) -> None:
        at_least(self, "workload.", length=1)


@dataclass(frozen=True, kw_only=True)
class UniformWorkload:
    """Final lengths uniform in ``low .. high``; the prompt is ``prompt_ratio`` of each."""

    name: typing.Literal["uniform"] = "uniform"
    low: int = 10
    high: int = 1024
    prompt_ratio: float = 0.5

    def __post_init__(self) -> None:
        at_least(self, "workload.", low=1, high=self.low)
        if not 0 < self.prompt_ratio <= 1:
            raise ValueError(f"workload.prompt_ratio={self.prompt_ratio} must be above 0 and at most 1")


@dataclass(frozen=True, kw_only=True)
class LognormalWorkload:
    """Prompt and output lengths log-normal, by their means and the sigma of the logarithm."""

    name: typing.Literal["lognormal"] = "lognormal"
    prompt_mean: float = 161.31
    prompt_sigma: float = 1.0
    output_mean: float = 337.99
    output_sigma: float = 1.0

    def __post_init__(self) -> None:
        at_least(self, "workload.", prompt_mean=1, output_mean=1, prompt_sigma=0, output_sigma=0)


@dataclass(frozen=True, kw_only=True)
class TraceWorkload:
    """Requests of a published trace file (Azure CSV, Mooncake JSONL, ShareGPT lengths)."""

    name: typing.Literal["trace"] = "trace"
    path: str = ""

    def __post_init__(self) -> None:
        if not self.path:
            raise ValueError("workload.path is empty; name a trace file, such as workload.path=trace.csv.gz")


Workload = FixedWorkload | UniformWorkload | LognormalWorkload | TraceWorkload


@dataclass(frozen=True, kw_only=True)
class AnyScenario:
    """What every scenario says of itself in its YAML."""

    processes: tuple[str, ...] = ()  # "module:function" of each process of a point, in order
    tensors: bool = False
    ignores: tuple[str, ...] = ()  # root names without effect on it, null in its key

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
class CacheScenario(AnyScenario):
    """A cache that is filled to mid-decode, its pages laid out as ``page_layout`` says."""

    tensors: bool = True
    layers_allocated: int = 1  # layers that get storage; the rest exist in pool_bytes only
    aged_turnovers: float = 3.0  # page_layout=aged: times that the whole pool was taken and freed
    shared_prefix_tokens: int = 256  # page_layout=shared_prefix: tokens that all sequences share

    def __post_init__(self) -> None:
        at_least(self, "scenario.", layers_allocated=1, aged_turnovers=0, shared_prefix_tokens=1)

    def layers_of(self, model: ModelSpec) -> int:
        """Layers that get storage."""
        return self.layers_allocated

    def without_effect(self, config: Config) -> tuple[str, ...]:
        """What belongs to other page layouts."""
        layout_of = {"aged_turnovers": "aged", "shared_prefix_tokens": "shared_prefix"}
        return tuple(name for name, layout in layout_of.items() if layout != config.page_layout)

    def check(self, config: Config) -> None:
        """A model has only so many layers."""
        if self.layers_allocated > config.model.num_layers:
            raise ValueError(
                f"scenario.layers_allocated={self.layers_allocated} must be at most "
                f"model.num_layers={config.model.num_layers}"
            )


@dataclass(frozen=True, kw_only=True)
class DecodeScenario(CacheScenario):
    """Fill a cache to mid-decode, check one decode step, then time it and weigh it."""

    name: typing.Literal["decode"] = "decode"


MAX_LEGACY_SEED = 2**32 - 1
"""The largest seed of NumPy's legacy generator, which the notebook uses."""


@dataclass(frozen=True, kw_only=True)
class NotebookScenario(AnyScenario):
    """The notebook's five experiments; the fields have its names and its values."""

    name: typing.Literal["notebook"] = "notebook"
    num_sequences: int = 100
    max_seq_length: int = 1024  # its lengths are uniform in 10 .. max_seq_length
    hidden_dim: int = 64  # elements per token, which is also its unit of memory
    page_size: int = 16
    num_sequences_list: tuple[int, ...] = (10, 20, 50, 100, 200)
    page_sizes: tuple[int, ...] = (4, 8, 16, 32, 64, 128)
    memory_sizes: tuple[float, ...] = (1e6, 2e6, 5e6, 1e7, 2e7, 5e7)  # elements

    def __post_init__(self) -> None:
        at_least(self, "scenario.", num_sequences=0, max_seq_length=10, hidden_dim=1, page_size=1)
        each_within("scenario.num_sequences_list", self.num_sequences_list, least=0)
        each_within("scenario.page_sizes", self.page_sizes, least=1)
        each_within("scenario.memory_sizes", self.memory_sizes, least=0)

    def check(self, config: Config) -> None:
        """The legacy generator takes 32 bits of seed."""
        if config.seed > MAX_LEGACY_SEED:
            raise ValueError(f"seed={config.seed} must be at most {MAX_LEGACY_SEED} for scenario=notebook")


HELD_LENGTHS = ("final", "mid_decode")
QUEUES = ("saturated", "open")


@dataclass(frozen=True, kw_only=True)
class CapacityScenario(AnyScenario):
    """How many sequences fit, by admitting and growing them until the first refusal."""

    name: typing.Literal["capacity"] = "capacity"
    held: str = "final"  # how far each has grown: final, or mid_decode (caught at a random token)
    real: bool = False  # allocate and write all layers on the device, and reconcile the bytes

    def __post_init__(self) -> None:
        one_of(self.held, HELD_LENGTHS, "scenario.held")
        if self.tensors != self.real:
            raise ValueError(f"scenario.tensors={self.tensors} must equal scenario.real={self.real}; set the latter")

    def layers_of(self, model: ModelSpec) -> int:
        """All layers, if any."""
        return model.num_layers if self.real else 0


@dataclass(frozen=True, kw_only=True)
class ChurnScenario(AnyScenario):
    """Sequences come, grow and leave over time; bookkeeping only."""

    name: typing.Literal["churn"] = "churn"
    queue: str = "saturated"  # saturated: all wait from the start; open: they arrive over time
    rate: float = 0.05  # queue=open: requests that arrive per step, on average (Poisson)

    def __post_init__(self) -> None:
        one_of(self.queue, QUEUES, "scenario.queue")
        if not 0 < self.rate < math.inf:
            raise ValueError(f"scenario.rate={self.rate} must be above 0 and finite")

    def without_effect(self, config: Config) -> tuple[str, ...]:
        """Nobody arrives at a saturated queue."""
        return ("rate",) if self.queue == "saturated" else ()


Scenario = DecodeScenario | NotebookScenario | CapacityScenario | ChurnScenario


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
    job: str | None
    plan: PlanConfig
    impl: ImplConfig
    policy: PolicyConfig
    model: ModelSpec
    workload: Workload
    scenario: Scenario
    measure: MeasureConfig
    hardware: HardwareConfig

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


@lru_cache
def _hints(cls: Any) -> dict[str, Any]:
    """Field types of a dataclass; resolving them takes longer than all the rest of ``build``."""
    return typing.get_type_hints(cls)


def known_keys() -> list[str]:
    """Every key that a command line may set, dotted."""
    hints = _hints(Config)
    keys = list(hints)
    for group, hint in hints.items():
        for member in _members(hint):
            if dataclasses.is_dataclass(member):
                keys += [f"{group}.{f.name}" for f in dataclasses.fields(member)]
    return sorted(set(keys))


def build(values: Mapping[str, Any]) -> Config:
    """Make a checked ``Config`` of plain containers.

    Raises:
        ValueError: an unknown key, a missing one, a wrong type or a value out of range, in one
            sentence that names the field, the value and what is allowed.
    """
    config: Config = _construct(Config, values, "")
    return config


def _members(hint: Any) -> tuple[Any, ...]:
    """The alternatives of a union, or the hint itself."""
    return typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)


def _construct(cls: Any, values: Mapping[str, Any], path: str) -> Any:
    hints = _hints(cls)
    for key in values:
        if key not in hints:
            raise ValueError(unknown_key(f"{path}{key}", [f"{path}{name}" for name in hints]))
    missing = [
        f.name
        for f in dataclasses.fields(cls)
        if f.name not in values and f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise ValueError(f"{path}{missing[0]} is missing")
    return cls(**{key: _convert(value, hints[key], f"{path}{key}") for key, value in values.items()})


def unknown_key(key: str, known: Iterable[str]) -> str:
    """The sentence for a key that does not exist, with the nearest that does."""
    known = list(known)
    near = difflib.get_close_matches(key, known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"the keys are {', '.join(known)}"
    return f"{key} is not a configuration key; {hint}"


def _convert(value: Any, hint: Any, path: str) -> Any:
    """``value`` as ``hint`` says, or a ``ValueError`` that names ``path``."""
    members = _members(hint)
    if value is None:
        if types.NoneType in members:
            return None
        raise ValueError(f"{path} must not be null")
    members = tuple(m for m in members if m is not types.NoneType)
    if dataclasses.is_dataclass(members[0]):
        return _construct(_by_name(members, value, path), value, f"{path}.")
    hint = members[0]
    origin = typing.get_origin(hint)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise ValueError(f"{path}={value} must be a list")
        item_type = typing.get_args(hint)[0]
        return tuple(_scalar(item, item_type, f"{path}[{place}]") for place, item in enumerate(value))
    if origin is typing.Literal:
        return value
    if origin is not None:  # Mapping
        if not isinstance(value, Mapping):
            raise ValueError(f"{path}={value} must be a mapping")
        return dict(value)
    return _scalar(value, hint, path)


def _by_name(members: tuple[Any, ...], value: Any, path: str) -> Any:
    """The member of a union whose ``name`` literal is the value's."""
    if not isinstance(value, Mapping):
        raise ValueError(f"{path}={value} must be a mapping")
    if len(members) == 1:
        return members[0]
    by_name = {typing.get_args(_hints(m)["name"])[0]: m for m in members}
    one_of(str(value.get("name")), by_name, f"{path}.name")
    return by_name[value["name"]]


def _scalar(value: Any, hint: type, path: str) -> Any:
    if hint is str and isinstance(value, str | int | float) and not isinstance(value, bool):
        return str(value)
    if hint is bool and isinstance(value, bool):
        return value
    if hint is int and isinstance(value, int) and not isinstance(value, bool):
        return value
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    noun = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}[hint]
    raise ValueError(f"{path}={value} must be {noun}")
