"""Check whether two sides ran on like machines. Only then may times and bytes be compared."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from bench.compare.side import Side
from bench.compare.verdicts.rules import Rules
from bench.config import one_of
from bench.rows.facts import BLOCKING

ROWS = "fingerprint"
"""Name of the mismatch of rows whose fingerprint differs from the ``environment.json`` of their run."""

NAMED = ("gpu", "cpu_model", "python", "torch", "driver")


@dataclass(frozen=True, kw_only=True)
class Mismatch:
    """Blocking facts that differ: those that are allowed to differ, and the others."""

    allowed: tuple[str, ...]
    refused: tuple[str, ...]


def mismatch(base: Side, candidate: Side, keys: pd.Index, rules: Rules) -> Mismatch:
    """Compare the blocking facts of both sides, then the fingerprints of their rows.

    Raises:
        ValueError: ``rules.allow_mismatch`` names no blocking fact.
    """
    for name in rules.allow_mismatch:
        one_of(name, (*BLOCKING, ROWS), "--allow-mismatch")
    differing = [name for name in BLOCKING if base.facts.get(name) != candidate.facts.get(name)]
    if not differing and _rows_differ(base, candidate, keys):
        differing = [ROWS]
    return Mismatch(
        allowed=tuple(_in_words(name, base, candidate) for name in differing if name in rules.allow_mismatch),
        refused=tuple(_in_words(name, base, candidate) for name in differing if name not in rules.allow_mismatch),
    )


def _rows_differ(base: Side, candidate: Side, keys: pd.Index) -> bool:
    """Return whether the rows of a key have more than one fingerprint."""
    columns = ["key", "fingerprint"]
    rows = pd.concat([side.table.loc[side.table["key"].isin(keys), columns] for side in (base, candidate)])
    return bool((rows.dropna().groupby("key")["fingerprint"].nunique() > 1).any())


def _in_words(name: str, base: Side, candidate: Side) -> str:
    """Return a differing fact in words."""
    if name == ROWS:
        return "fingerprint: some rows were run on another machine than the rest"
    return f"{name}: {base.facts.get(name)} against {candidate.facts.get(name)}"


def described(side: Side) -> dict[str, object]:
    """Return the description of a side for readers."""
    git = side.facts.get("git") or {}
    return {
        "name": side.name,
        "rows": len(side.table),
        "commit": git.get("commit"),
        "dirty": git.get("dirty"),
        "fingerprint": side.facts.get("fingerprint"),
        "machine": {name: side.facts.get(name) for name in NAMED if side.facts.get(name) is not None},
    }
