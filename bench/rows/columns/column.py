"""One column of a row: everything that printing, marking, reports, documents and comparisons read about it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

Kind = Literal["identity", "exact", "timing", "memory", "record"]
Better = Literal["lower", "higher"] | None
PrintedTable = Literal["question", "times", "memory", "counts", "serving", "report"]
Source = Literal["harness", "scenario", "memory"]

FRACTION_TOLERANCE: Final = 1e-9
"""See ``Column.rel_tolerance``."""

LAST: Final = 80
"""Default of ``Column.place``."""

SHARE: Final = (0.0, 1.0)
"""``Column.bounds`` of a part of a whole."""

ANY_SIGN: Final = (-math.inf, math.inf)
"""``Column.bounds`` of a difference."""


class Unit(NamedTuple):
    """What the suffix of a column's name means."""

    symbol: str
    whole: bool  # the values are whole numbers
    in_heading: bool = False  # a printed heading ends with the symbol


SUFFIXES: Final = {
    "_us_per_ktoken": Unit("µs/ktoken", whole=False, in_heading=True),
    "_ns_per_op": Unit("ns/op", whole=False, in_heading=True),
    **dict.fromkeys(("_us", "_us_low", "_us_high", "_us_min"), Unit("µs", whole=False, in_heading=True)),
    **dict.fromkeys(("_ms_mean", "_ms_p50", "_ms_p90", "_ms_p99"), Unit("ms", whole=False, in_heading=True)),
    **dict.fromkeys(
        [f"_ms_per_token{which}" for which in ("", "_p50", "_p90", "_p99")],
        Unit("ms/token", whole=False, in_heading=True),
    ),
    "_per_s": Unit("per s", whole=False, in_heading=True),
    "_s": Unit("s", whole=False, in_heading=True),
    "_gbps": Unit("GB/s", whole=False, in_heading=True),
    "_tflops": Unit("TFLOP/s", whole=False, in_heading=True),
    "_ratio": Unit("ratio", whole=False),
    "_error": Unit("", whole=False),
    "_mean": Unit("", whole=False),
    "_bytes": Unit("bytes", whole=True),
    "_tokens": Unit("tokens", whole=True),
    "_pages": Unit("pages", whole=True),
    "_seqs": Unit("sequences", whole=True),
    "_requests": Unit("requests", whole=True),
    **dict.fromkeys(("_samples", "_calls", "_retries", "_steps"), Unit("", whole=True)),
}
"""Every suffix that gives a column its unit and its type. The longest that fits counts."""

NO_UNIT: Final = Unit("", whole=False)


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column. A new metric is one of these in a topic of ``bench.rows.columns``.

    The suffix of the name gives the unit and the type (``SUFFIXES``).

    Attributes:
        name: name in rows, tables and options. It never changes.
        kind: how two runs are compared. ``exact``: by equality on any machine. ``timing`` and ``memory``: only
            between like machines. ``identity`` and ``record``: never.
        better: direction of an improvement, ``None`` if neither direction is better.
        meaning: sentence for the documents.
        heading: words of its printed heading, without the unit. ``None``: the words of the name.
        tables: printed tables that contain it, where it has a value.
        place: rank in these tables. Equal ranks keep the order of the registry.
        marks_best: the best value among rows of equal work is marked in print.
        digits: significant digits of a fraction in print.
        may_be_null: it can be null without a reason.
        counts: it is a whole number although its name has no suffix of ``SUFFIXES``.
        derived_from: columns that it repeats. A change of them is not judged again here.
        on_request: it is judged only if ``--metric`` names it.
        names_point: its value alone is part of the label of a point, instead of ``name=value``.
        must_match: kinds of columns that are compared only between rows with equal values of this column.
        tolerance: relative difference of equal values of kind ``exact``. ``None``: ``rel_tolerance`` decides.
        bounds: smallest and largest possible value. ``None``: a number is at least 0.
        source: what fills it: the harness, a process of the scenario, or the process that measures memory.
        scenarios: scenarios that fill it. Empty: any scenario.
    """

    name: str
    kind: Kind
    better: Better = None
    meaning: str
    heading: str | None = None
    tables: tuple[PrintedTable, ...] = ()
    place: int = LAST
    marks_best: bool = False
    digits: int = 4
    may_be_null: bool = False
    counts: bool = False
    derived_from: tuple[str, ...] = ()
    on_request: bool = False
    names_point: bool = False
    must_match: tuple[Kind, ...] = ()
    tolerance: float | None = None
    bounds: tuple[float, float] | None = None
    source: Source = "scenario"
    scenarios: tuple[str, ...] = ()

    @property
    def _suffix(self) -> str:
        return max((suffix for suffix in SUFFIXES if self.name.endswith(suffix)), key=len, default="")

    @property
    def _unit(self) -> Unit:
        return SUFFIXES.get(self._suffix, NO_UNIT)

    @property
    def unit(self) -> str:
        """The symbol of its unit. Empty for a plain count or a text.

        >>> Column(name="decode_us", kind="timing", better="lower", meaning="").unit
        'µs'
        """
        return self._unit.symbol

    @property
    def dtype(self) -> str:
        """The pandas type: ``Int64`` for a whole number, ``Float64`` for a fraction, ``object`` for a text."""
        if self.counts or self._unit.whole:
            return "Int64"
        return "Float64" if self._suffix else "object"

    @property
    def printed(self) -> str:
        """The heading of its column in a printed table, with the unit unless each value carries it.

        >>> Column(name="decode_us", kind="timing", better="lower", meaning="").printed
        'decode µs'
        """
        words = self.name.removesuffix(self._suffix).replace("_", " ") if self.heading is None else self.heading
        return f"{words} {self.unit}".strip() if self._unit.in_heading else words

    @property
    def rel_tolerance(self) -> float:
        """Relative difference up to which two values of kind ``exact`` are equal: 0 for whole numbers and texts.

        A fraction is a quotient of integers, divided once, and does not depend on the processor. Rows of earlier
        versions hold fractions that were summed in floating point, and differ from it in the last digits.

        >>> [Column(name=name, kind="exact", meaning="").rel_tolerance for name in ("itl_ms_mean", "loaded_steps")]
        [1e-09, 0.0]
        """
        if self.tolerance is not None:
            return self.tolerance
        return FRACTION_TOLERANCE if self.kind == "exact" and self.dtype == "Float64" else 0.0

    @property
    def limits(self) -> tuple[float, float] | None:
        """Smallest and largest possible value, ``None`` for a text."""
        return self.bounds or (None if self.dtype == "object" else (0.0, math.inf))

    @property
    def judged(self) -> bool:
        """Whether comparing two runs gives a verdict on it."""
        if self.kind == "exact":
            return True
        return self.better is not None and not self.derived_from and not self.on_request


@dataclass(frozen=True, kw_only=True)
class Topic:
    """Columns of one subject, in the order of the table.

    Attributes:
        title: heading in ``docs/columns.md``.
        columns: the columns.
    """

    title: str
    columns: tuple[Column, ...]
