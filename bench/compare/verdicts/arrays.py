"""Rows of both sides as arrays over the keys that they share."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bench.compare.side import Side

NULL = -1
"""Code of a value that was not measured."""


@dataclass(frozen=True)
class SideRows:
    """The ok rows of one side whose keys are compared, one per key and fork server.

    Attributes:
        table: these rows.
        keys: the shared keys, in order.
    """

    table: pd.DataFrame
    keys: pd.Index

    @cached_property
    def place(self) -> NDArray[np.intp]:
        """The place of the key of each row."""
        return self.keys.get_indexer(pd.Index(self.table["key"]))

    @cached_property
    def measured(self) -> set[str]:
        """Columns that have a value in at least one row."""
        there = self.table.notna().any()
        return set(there.index[there])

    @cached_property
    def first(self) -> NDArray[np.intp]:
        """The first row of each key."""
        first = np.full(len(self.keys), len(self.place), dtype=np.intp)
        np.minimum.at(first, self.place, np.arange(len(self.place)))
        return first

    def logs(self, column: str, replicates: pd.Index) -> NDArray[np.float64]:
        """Return logs of a column, ``[keys, replicates]``. NaN where there is no row, or no value above zero."""
        values = self.table[column].to_numpy(dtype=float, na_value=np.nan)
        out = np.full((len(self.keys), len(replicates)), np.nan)
        columns = replicates.get_indexer(pd.Index(self.table["replicate"]))
        there = columns >= 0
        with np.errstate(divide="ignore", invalid="ignore"):
            logs = np.where(values > 0, np.log(values), np.nan)
        out[self.place[there], columns[there]] = logs[there]
        return out

    def medians(self, column: str) -> NDArray[np.float64]:
        """Return the median of the values of each key."""
        values = self.table[column].to_numpy(dtype=float, na_value=np.nan)
        return pd.Series(values).groupby(self.place).median().reindex(range(len(self.keys))).to_numpy()

    def settled(self, codes: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Return the code of the first row of each key, and whether all of its rows have this code."""
        value = codes[self.first]
        agrees = np.ones(len(self.keys), dtype=bool)
        np.logical_and.at(agrees, self.place, codes == value[self.place])
        return value, agrees


def rows_of(side: Side, keys: pd.Index) -> SideRows:
    """Return the comparable rows of a side.

    The replicate is the process. Rows of one key whose processes came from the same fork server
    share load addresses and hash seed, so only the first is used.
    """
    table = side.table
    table = table[table["status"].eq("ok") & table["key"].isin(keys)].sort_values("replicate", kind="stable")
    servers = table["server_id"].fillna("unknown")
    return SideRows(table[~pd.DataFrame({"key": table["key"], "server": servers}).duplicated()], keys)


def codes(
    base: SideRows, candidate: SideRows, column: str, rel_tolerance: float = 0.0
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return a column of both sides as whole numbers that are equal where its values are.

    Args:
        base: rows that have the column.
        candidate: rows that also have it.
        column: its name.
        rel_tolerance: how far a value may be from the base's first value of the same key and still equal it. Above 0
            the column must hold numbers.
    """
    values = [rows.table[column] for rows in (base, candidate)]
    if rel_tolerance:
        numbers = [value.to_numpy(dtype=float, na_value=np.nan) for value in values]
        wanted = numbers[0][base.first]
        values = [_snapped(value, wanted[rows.place], rel_tolerance)
                  for value, rows in zip(numbers, (base, candidate), strict=True)]  # fmt: skip
    both = pd.concat(values, ignore_index=True)
    found = pd.factorize(both.map(_hashable) if both.dtype == object else both)[0].astype(np.int64)
    return found[: len(values[0])], found[len(values[0]) :]


def _snapped(values: NDArray[np.float64], wanted: NDArray[np.float64], rel_tolerance: float) -> pd.Series:
    """Return the values, and the wanted ones in place of those that are within the tolerance of them."""
    near = np.abs(values - wanted) <= rel_tolerance * np.abs(wanted)
    return pd.Series(np.where(near, wanted, values))


def _hashable(value: Any) -> Any:
    return json.dumps(value, sort_keys=True) if isinstance(value, (dict, list)) else value
