"""The noise floor: what the same code shows against itself on a machine, by metric."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bench import ROOT
from bench.compare.side import Side
from bench.compare.verdicts.comparison import Comparison, compare
from bench.compare.verdicts.rules import Rules
from bench.rows.json_file import write_json
from bench.rows.json_input import read_json

FLOORS = ROOT / "results" / "noise"
"""Where ``scripts/aa.py`` leaves what later comparisons use, by fingerprint."""

QUANTILE = 0.95
"""Of the differences between equal code; with fewer than twenty of them it is the largest."""

NOISE_SCHEMA = 1


def measured_floor(comparisons: Iterable[Comparison]) -> dict[str, float]:
    """By metric: the difference, as a fraction, that equal code stays below in ``QUANTILE`` of all cases."""
    seen: dict[str, list[float]] = {}
    for comparison in comparisons:
        tested = comparison.verdicts[comparison.verdicts["ratio_low"].notna()]
        for metric, ratio in zip(tested["metric"], tested["ratio"], strict=True):
            seen.setdefault(metric, []).append(abs(float(np.log(ratio))))
    return {metric: float(np.expm1(np.quantile(sizes, QUANTILE, method="higher"))) for metric, sizes in seen.items()}


def write_floor(floors: Mapping[str, float], side: Side, about: Mapping[str, Any]) -> Path:
    """Store floors under the fingerprint of a side's machine, apart for runs that took turns; returns the file."""
    FLOORS.mkdir(parents=True, exist_ok=True)
    path, facts = _path(side), side.facts
    machine = {name: facts.get(name) for name in ("cpu_model", "gpu", "python", "torch")}
    write_json(path, {"schema_version": NOISE_SCHEMA, "floors": dict(floors), "machine": machine, **about})
    return path


def compared(base: Side, candidate: Side, rules: Rules) -> Comparison:
    """Compare with the noise floor of the candidate's machine, if one was measured.

    Raises:
        ValueError: the rules name a fact that is none; or the floor's file is not what ``write_floor`` wrote.
    """
    return compare(base, candidate, rules, read_floor(candidate))


def read_floor(side: Side) -> dict[str, float]:
    """The floors of a side's machine, for runs made like its own; empty if none were measured.

    Raises:
        ValueError: the file is not what ``write_floor`` wrote.
    """
    path = _path(side)
    if not path.is_file():
        return {}
    try:
        content = read_json(path)
        floors = {str(name): float(floor) for name, floor in content["floors"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is not a noise floor: {error}; measure it again with scripts/aa.py") from error
    if content.get("schema_version") != NOISE_SCHEMA:
        raise ValueError(f"{path} has schema version {content.get('schema_version')}; measure it again")
    if not all(np.isfinite(floor) and floor >= 0 for floor in floors.values()):
        raise ValueError(f"{path} holds a floor that is not a fraction of at least 0; measure it again")
    return floors


def _path(side: Side) -> Path:
    turns = side.table.get("took_turns")
    suffix = "-in-turn" if turns is not None and turns.eq(True).all() else ""
    return FLOORS / f"{side.facts.get('fingerprint')}{suffix}.json"
