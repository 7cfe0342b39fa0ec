"""Build a ``Config`` from plain containers. An unknown, missing or mistyped field raises ``ValueError``."""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import math
import types
import typing
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from bench import ROOT
from bench.config.checks import class_name, one_of
from bench.config.root import AnyScenario, Config

MAX_INT = 2**63 - 1
"""Largest whole number of a configuration, which is also that of a row."""
SCENARIOS = ROOT / "conf" / "scenario"
"""The YAML files of the scenarios of this repository."""


@lru_cache
def _hints(cls: Any) -> dict[str, Any]:
    """Return the field types of a dataclass. Resolving them takes longer than the rest of ``build``."""
    return typing.get_type_hints(cls)


def resolve_types(cls: Any = Config) -> None:
    """Resolve the types of all fields now.

    A fork server calls this once. Otherwise each of its children would spend more time on it than on a small point.
    """
    for hint in _hints(cls).values():
        for member in _members(hint):
            if dataclasses.is_dataclass(member):
                resolve_types(member)


def known_keys() -> list[str]:
    """Return every key that a command line may set, with dots between group and field."""
    hints = _hints(Config)
    keys = [*hints, *(f"scenario.{name}" for name in _scenario_keys())]
    for group, hint in hints.items():
        for member in _members(hint):
            if dataclasses.is_dataclass(member):
                keys += [f"{group}.{f.name}" for f in dataclasses.fields(member)]
    return sorted(set(keys))


def _scenario_keys() -> set[str]:
    """Return the keys in the YAML files of all scenarios of this repository."""
    import yaml

    texts = [path.read_text(encoding="utf-8") for path in SCENARIOS.glob("*.yaml")]
    return {str(name) for text in texts for name in yaml.safe_load(text)}


def build(values: Mapping[str, Any]) -> Config:
    """Return a checked ``Config`` made from plain containers.

    Raises:
        ValueError: a key is unknown or missing, or a value has a wrong type or is out of range. The message names
            the field, the value and what is allowed.
    """
    config: Config = _construct(Config, values, "")
    return config


def _members(hint: Any) -> tuple[Any, ...]:
    """Return the alternatives of a union, or the hint alone if it is no union."""
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
        raise ValueError(f"{path}{missing[0]} is missing. Add it to the YAML file of its group")
    return cls(**{key: _convert(value, hints[key], f"{path}{key}") for key, value in values.items()})


def unknown_key(key: str, known: Iterable[str]) -> str:
    """Return the message for an unknown key. It suggests the most similar key of the group, or lists its keys.

    >>> unknown_key("policy.watermrk", ["page_size", "policy.name", "policy.watermark"])
    'policy.watermrk is not a configuration key. Did you mean policy.watermark?'
    >>> unknown_key("policy.x", ["page_size", "policy.name", "policy.watermark"])
    'policy.x is not a configuration key. The keys are policy.name, policy.watermark'
    """
    known = list(known)
    if key in known:  # of another option of its group
        return f"{key} is not a key of the chosen option of {key.rpartition('.')[0]}"
    group, _, field = key.rpartition(".")
    in_group = {name.rpartition(".")[2]: name for name in known if name.rpartition(".")[0] == group}
    names = in_group or {name: name for name in known}
    near = difflib.get_close_matches(field if in_group else key, names, n=1)
    listed = in_group.values() or [name for name in known if "." not in name]
    hint = f"Did you mean {names[near[0]]}?" if near else f"The keys are {', '.join(listed)}"
    return f"{key} is not a configuration key. {hint}"


def _convert(value: Any, hint: Any, path: str) -> Any:
    """Return ``value`` converted to the type ``hint``. A ``ValueError`` names ``path``."""
    members = _members(hint)
    if value is None:
        if types.NoneType in members:
            return None
        raise ValueError(f"{path}=null is not allowed. Set a value")
    members = tuple(m for m in members if m is not types.NoneType)
    if members[0] is AnyScenario:
        return _construct(_scenario_class(value, path), value, f"{path}.")
    if dataclasses.is_dataclass(members[0]):
        return _construct(_member_named(members, value, path), value, f"{path}.")
    hint = members[0]
    origin = typing.get_origin(hint)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise ValueError(f"{path}={value} must be a list, such as [1,2]")
        item_type = typing.get_args(hint)[0]
        return tuple(_convert_scalar(item, item_type, f"{path}[{index}]") for index, item in enumerate(value))
    if origin is typing.Literal:
        return value
    if origin is not None:  # Mapping
        return dict(_require_mapping(value, path))
    return _convert_scalar(value, hint, path)


def _require_mapping(value: Any, path: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{path}={value} must be a mapping of names to values")
    return value


def _scenario_class(value: Any, path: str) -> type[AnyScenario]:
    """Import and return the class that ``scenario.target`` names."""
    target = str(_require_mapping(value, path).get("target", ""))
    module, _, name = target.rpartition(".")
    class_name(target, f"{path}.target")
    try:
        found = getattr(importlib.import_module(module), name, None)
    except ImportError as error:
        raise ValueError(f"{path}.target={target} cannot be imported: {error}") from error
    if not (isinstance(found, type) and issubclass(found, AnyScenario)):
        raise ValueError(f"{path}.target={target} must be a subclass of {AnyScenario.__module__}.AnyScenario")
    members: Any = found  # mypy does not accept a class as a hashable argument
    names = typing.get_args(_hints(members)["name"])
    if names:
        one_of(str(value.get("name")), names, f"{path}.name")
    return found


def _member_named(members: tuple[Any, ...], value: Any, path: str) -> Any:
    """Return the member of a union that has the value's ``name`` among its literals."""
    name = _require_mapping(value, path).get("name")
    if len(members) == 1:
        return members[0]
    by_name = {literal: member for member in members for literal in typing.get_args(_hints(member)["name"])}
    one_of(str(name), by_name, f"{path}.name")
    return by_name[name]


def _convert_scalar(value: Any, hint: type, path: str) -> Any:
    if isinstance(value, int) and abs(value) > MAX_INT:
        raise ValueError(f"{path}={str(value)[:40]} must be between -{MAX_INT} and {MAX_INT}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{path}={value} must be a finite number")
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
