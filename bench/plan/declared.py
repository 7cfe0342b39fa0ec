"""Check that a stored plan names only code that is declared here. A run folder is data and is never code.

``plan.json`` may come from another person. The classes and functions that its points name are compared with YAML files
of this repository, of the ``--config-dir`` folders of the present command, and with the values of this command.
Nothing is imported before all points have passed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from bench import ROOT
from bench.rows.json_input import read_bytes, shorten

CODE_FIELDS: Mapping[str, tuple[str, ...]] = {
    "scenario": ("target", "predict", "processes"),
    "impl": ("target",),
    "policy": ("target",),
}
"""By group: the fields that name modules."""


GROUPS = (*CODE_FIELDS, "model", "workload", "measure", "hardware", "cost", "experiment")
_KEY = re.compile(r"[+~]{0,2}[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z0-9_]+)*")
_OPTION = re.compile(r"[A-Za-z0-9_.-]+")


def check_declared(
    points: Sequence[Mapping[str, Any]], config_dirs: Sequence[str], given: Mapping[str, Any], path: Path
) -> None:
    """Check the names of all code in some stored points: in their values and in their overrides.

    Args:
        points: the stored points, with the groups of ``CODE_FIELDS`` in ``values``.
        config_dirs: ``--config-dir`` folders of the present command.
        given: the composed configuration of the present command. It is trusted, too.
        path: the plan, for the message.

    Raises:
        ValueError: a point names code that is not declared.
    """
    declared = {group: _declarations(group, config_dirs, given) for group in CODE_FIELDS}
    for point in points:
        values = point["values"]
        for override in point["overrides"]:
            _check_override(override, given, path)
        for group in CODE_FIELDS:
            if _code(group, values[group]) not in declared[group]:
                _refuse(group, values[group], declared[group], path)


def _check_override(override: str, given: Mapping[str, Any], path: Path) -> None:
    """Check one stored override. Launcher plugins pass it to Hydra, which could load a YAML file of its choice.

    Raises:
        ValueError: it sets Hydra, chooses a file outside the configuration folders, or names code.
    """
    key, _, value = override.partition("=")
    group, _, field = key.lstrip("+~").partition(".")
    names_code = field in CODE_FIELDS.get(group, ()) and str((given.get(group) or {}).get(field)) != value
    leaves_folder = group in GROUPS and not field and "=" in override and not _OPTION.fullmatch(value)
    if not _KEY.fullmatch(key) or group == "hydra" or names_code or leaves_folder:
        raise ValueError(
            f"{path}: the override {shorten(override)} is not allowed in a stored plan. A run folder is data, and only "
            "declared code is run"
        )


def _declarations(group: str, config_dirs: Sequence[str], given: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the code of every option of a group."""
    files = [path for folder in (ROOT / "conf", *map(Path, config_dirs)) for path in (folder / group).glob("*.yaml")]
    options = [yaml.safe_load(read_bytes(path)) for path in files]
    return [_code(group, option) for option in (*options, given.get(group)) if isinstance(option, Mapping)]


def _code(group: str, option: Mapping[str, Any]) -> dict[str, Any]:
    """Return the name of an option and the code that it names. An absent field is empty."""
    return {name: option.get(name) or None for name in ("name", *CODE_FIELDS[group])}


def _refuse(group: str, option: Mapping[str, Any], declared: Sequence[Mapping[str, Any]], path: Path) -> None:
    stored = _code(group, option)
    same_name = [code for code in declared if code["name"] == stored["name"]]
    if not same_name:
        raise ValueError(
            f"{path}: {group}.name={shorten(str(stored['name']))} is not declared in conf/{group} or in a "
            "--config-dir of this command. A run folder is data, and only declared code is run. If you trust it, give "
            "its --config-dir again"
        )
    field = next(name for name in CODE_FIELDS[group] if stored[name] != same_name[0][name])
    raise ValueError(
        f"{path}: {group}.{field}={shorten(str(stored[field]))} must be {same_name[0][field]}, as the YAML file of "
        f"{group}={stored['name']} declares. A run folder is data, and only declared code is run"
    )
