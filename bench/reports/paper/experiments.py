"""Find the rows that an experiment of ``conf/experiment/`` sweeps over, by the columns of the rows alone.

A figure takes the rows of an experiment. A row names its experiment where the command did. Where the same sweep was
written out by hand, its rows are found here by the values that the experiment's file, and the defaults, give them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final

import pandas as pd
import yaml

from bench import ROOT
from bench.config.units import parse_bytes
from bench.reports.paper.runs import EXPERIMENTS, SHAREGPT_LENGTHS

CONF: Final = ROOT / "conf"

_Convert = Callable[[str], Any]
COLUMN_OF: Final[Mapping[str, tuple[str, _Convert]]] = {
    "scenario": ("scenario", str),
    "model": ("model", str),
    "workload": ("workload", str),
    "policy": ("policy", str),
    "policy.arena": ("arena", str),
    "memory_budget": ("memory_budget_bytes", lambda text: float(parse_bytes(text, "memory_budget"))),
    "seed": ("seed", float),
    "page_size": ("page_size", float),
    "page_layout": ("page_layout", str),
    "num_seqs": ("num_seqs", float),
    "impl": ("implementation", str),
    "scenario.arrivals": ("arrivals", str),
    "scenario.rate": ("rate_per_s", float),
    "scenario.sampling": ("sampling", str),
    "scenario.num_samples": ("num_samples", float),
    "scenario.beam_turnover": ("beam_turnover_ratio", float),
    "scenario.shared_prefix_tokens": ("shared_prefix_tokens", float),
    "scenario.preemption": ("preemption_kind", str),
    "cost.gpu": ("gpu", str),
    "cost.num_gpus": ("num_gpus", float),
    "cost.slowdown": ("slowdown_ratio", float),
}
"""Column that records a key of the configuration, and the type of its values."""


def sweeps_over(experiment: str, rows: pd.DataFrame) -> pd.Series:
    """Return for each row whether the experiment sweeps over its values.

    A value that is null in the row has no effect on it, so it agrees with every value of the experiment.

    Args:
        experiment: name of a file in ``conf/experiment/``.
        rows: a table of rows.

    Raises:
        ValueError: there is no such experiment.
    """
    found = pd.Series(True, index=rows.index)
    for column, allowed in definition(experiment).items():
        if column == "workload":
            found &= _same_lengths(experiment, allowed, rows)
        else:
            found &= rows[column].isin(list(allowed)) | rows[column].isna()
    return found


def _same_lengths(experiment: str, workloads: frozenset[Any], rows: pd.DataFrame) -> pd.Series:
    """Whether a row's lengths are the experiment's, or a published file that ``make paper`` puts in their place."""
    files = {part.trace for part in EXPERIMENTS if part.experiment == experiment and part.trace}
    if any(part.sharegpt for part in EXPERIMENTS if part.experiment == experiment):
        files |= set(SHAREGPT_LENGTHS)
    same = rows["workload"].isin(list(workloads - {"trace"}))
    return same | rows["trace"].isin([name.partition(".")[0] for name in files])


@lru_cache
def definition(experiment: str) -> Mapping[str, frozenset[Any]]:
    """Return the values that an experiment gives to each column of ``COLUMN_OF``.

    Raises:
        ValueError: there is no such experiment.
    """
    path = CONF / "experiment" / f"{experiment}.yaml"
    if not path.is_file():
        raise ValueError(f"experiment={experiment} is not known: there is no {path.name} in conf/experiment")
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    params = content.pop("hydra", {}).get("sweeper", {}).get("params", {})
    groups = _groups(content.pop("defaults", []))
    asked = {**_defaults(groups), **groups, **_dotted(content), **params}
    asked = {key: value for key, value in asked.items() if str(value) != "auto"}  # resolved, so unknown here
    return {
        column: frozenset(convert(part.strip()) for part in str(asked[key]).split(","))
        for key, (column, convert) in COLUMN_OF.items()
        if key in asked
    }


def _defaults(groups: Mapping[str, str]) -> dict[str, Any]:
    """Values of keys that the experiment leaves as they are."""
    whole = yaml.safe_load((CONF / "config.yaml").read_text(encoding="utf-8"))
    chosen = {**_groups(whole.pop("defaults")), **groups}
    options = {}
    for group in ("scenario", "cost"):
        text = (CONF / group / f"{chosen[group]}.yaml").read_text(encoding="utf-8")
        options[group] = yaml.safe_load(text)
    return {"cost.slowdown": 1.0, **chosen, **_dotted({**whole, **options})}


def _groups(defaults: list[Any]) -> dict[str, str]:
    """Choice of each group in a defaults list."""
    pairs = [pair for entry in defaults if isinstance(entry, dict) for pair in entry.items()]
    return {str(key).removeprefix("override ").removeprefix("/"): str(value) for key, value in pairs}


def _dotted(content: Mapping[str, Any]) -> dict[str, Any]:
    """Keys of two levels, joined by a dot."""
    found = {key: value for key, value in content.items() if not isinstance(value, dict)}
    nested = {key: value for key, value in content.items() if isinstance(value, dict)}
    return found | {f"{group}.{key}": value for group, values in nested.items() for key, value in values.items()}
