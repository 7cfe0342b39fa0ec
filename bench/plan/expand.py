"""Expand overrides to composed points. This is the only module of the room that uses Hydra.

Hydra composes each choice of groups once, which takes tens of milliseconds. The swept scalars of a point are then set
on a copy, which takes less than one.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

from bench.config import known_keys, unknown_key
from bench.plan.points import Composed
from bench.plan.quoting import PATHS, absolute_path

WHOLE_RUN = ("experiment", "replicates", "run_dir", "timeout_s", "resume", "resume_mixed", "dry_run", "draw", "job")
"""Keys with one value for the whole run. They cannot be an axis."""
ADDED = "+"
"""Prefix in Hydra's grammar of a key that the configuration does not contain yet, such as one of ``impl.options``."""


def expand(
    loader: ConfigLoader, master: DictConfig, params: Mapping[str, str], arguments: Sequence[str]
) -> list[Composed]:
    """Return every point of the sweep, duplicates included, in the order of the axes.

    Args:
        loader: Hydra's configuration loader with its search path.
        master: the configuration that Hydra composed for the sweep.
        params: ``hydra.sweeper.params``, the default axes. An axis of the command line replaces one with the same key.
        arguments: task overrides of the command line.

    Raises:
        ValueError: a key is unknown, or a sweep is given for a key that has one value for the whole run.
        HydraException: Hydra refuses the overrides, for instance because a group option does not exist.
    """
    parser = OverridesParser.create(config_loader=loader)
    axes: dict[str, Override] = {}
    for override in parser.parse_overrides([f"{key}={value}" for key, value in params.items()] + list(arguments)):
        axes[override.get_key_element()] = override
    choices = [list(_choices(key, override)) for key, override in axes.items()]
    swept_scalars = {
        key for key, override in axes.items() if override.is_sweep_override() and not loader.get_group_options(key)
    }
    compose = _Composer(loader, master)
    return [compose(point, swept_scalars, parser) for point in itertools.product(*choices)]


def _choices(key: str, override: Override) -> Iterator[tuple[str, str]]:
    """Yield (key, override) for each value of one axis."""
    if not override.is_sweep_override():
        plain = key if override.is_delete() else f"{key}={override.get_value_element_as_str()}"
        yield key, plain if override.is_delete() else _with_absolute_path(key, override.value(), plain)
        return
    if key in WHOLE_RUN:
        raise ValueError(f"{override.input_line}: {key} must have one value for the whole run, not a sweep")
    if not override.is_discrete_sweep():
        raise ValueError(f"{override.input_line} is no list of values. Write {key}=a,b,c or {key}=range(a,b)")
    values = list(override.sweep_string_iterator())
    if not values:
        raise ValueError(f"{override.input_line} must give at least one value")
    for value in values:
        parsed = OverridesParser.create().parse_override(f"{key}={value}").value()
        yield key, _with_absolute_path(key, parsed, f"{key}={value}")


def _with_absolute_path(key: str, value: object, override: str) -> str:
    """Return the override, or one with an absolute path if its value is a path."""
    is_path = key in PATHS and value not in (None, "") and "${" not in str(value)
    return absolute_path(key, str(value)) if is_path else override


class _Composer:
    """Composes points. It keeps the composition of each choice of groups and the value of each override."""

    def __init__(self, loader: ConfigLoader, master: DictConfig) -> None:
        self.loader = loader
        self.config_name = master.hydra.job.config_name
        self.hydra_overrides = [str(override) for override in master.hydra.overrides.hydra]
        self.compositions: dict[tuple[str, ...], DictConfig | dict[str, Any]] = {}
        self.values: dict[str, Any] = {}

    def __call__(self, point: Sequence[tuple[str, str]], swept: set[str], parser: OverridesParser) -> Composed:
        fixed = tuple(override for key, override in point if key not in swept)
        if fixed not in self.compositions:
            self.compositions[fixed] = self._load(fixed)
        base = self.compositions[fixed]
        changes = {key: self._value(override, parser) for key, override in point if key in swept}
        values = _with_changes(base, changes) if isinstance(base, dict) else _resolved(base, changes)
        return Composed(values=values, overrides=tuple(override for _, override in point))

    def _value(self, override: str, parser: OverridesParser) -> Any:
        if override not in self.values:
            self.values[override] = parser.parse_override(override).value()
        return self.values[override]

    def _load(self, overrides: tuple[str, ...]) -> DictConfig | dict[str, Any]:
        """Compose with Hydra.

        Plain containers can be copied in a tenth of the time. A ``DictConfig`` is returned only if interpolations
        depend on the axes.
        """
        cfg = self.loader.load_configuration(
            self.config_name, overrides=[*self.hydra_overrides, *overrides], run_mode=RunMode.RUN
        )
        with open_dict(cfg):
            del cfg["hydra"]
        return cfg if "${" in OmegaConf.to_yaml(cfg) else _plain(cfg)


def _plain(cfg: DictConfig) -> dict[str, Any]:
    values = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(values, dict)
    return {str(name): value for name, value in values.items()}


def _resolved(base: DictConfig, changes: Mapping[str, Any]) -> dict[str, Any]:
    cfg = copy.deepcopy(base)
    for key, value in changes.items():
        path = key.removeprefix(ADDED)
        if path == key and OmegaConf.select(cfg, key, default=_ABSENT) is _ABSENT:
            raise ValueError(unknown_key(key, known_keys()))
        OmegaConf.update(cfg, path, value, force_add=path != key)
    return _plain(cfg)


def _with_changes(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of plain containers with swept scalars set. A key must exist already or begin with ``+``."""
    values = copy.deepcopy(dict(base))
    for key, value in changes.items():
        *groups, name = key.removeprefix(ADDED).split(".")
        node: Any = values
        for group in groups:
            node = node.get(group) if isinstance(node, dict) else None
        if not isinstance(node, dict) or (name not in node and not key.startswith(ADDED)):
            raise ValueError(unknown_key(key, known_keys()))
        node[name] = value
    return values


_ABSENT = object()
