"""Read claims from ``claims.yaml``, and check each field once.

The answer to a claim is one or several cells of a figure's frame (the CSV behind it), so the judged
number is the drawn number. The printed numbers in a figure come from the claims.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import yaml

from bench.rows.json_input import check_shape, read_bytes, shorten

CLAIMS: Final = Path(__file__).parent / "claims.yaml"

CLAIM_KINDS: Final = ("arithmetic", "allocation", "modelled", "construction", "measured")
"""Origin of our number. ``modelled`` uses a cost model. ``construction``: the workload was built to match it."""
TOLERANCE_UNITS: Final = ("absolute", "relative")
REDUCTIONS: Final = ("only", "max", "range", "all")
STAND_IN: Final = "built-in stand-in"
"""Name of lengths drawn from published quantiles, where the real ones are not available."""


@dataclass(frozen=True, kw_only=True)
class AnswerCells:
    """The cells of a figure's frame that answer a claim.

    Attributes:
        figure: name of a ``FigureSpec``.
        value: column of its frame.
        where: other columns and the value that each must have.
        over: how several rows become one answer: ``only`` (they must agree), ``max``, ``range`` (their least and most),
            or ``all`` (a share of rows that are true).
    """

    figure: str
    value: str
    where: Mapping[str, Any] = field(default_factory=dict)
    over: str = "only"


@dataclass(frozen=True, kw_only=True)
class Tolerance:
    """Allowed distance of our number from the printed one, fixed before our number was known.

    Attributes:
        within: half-width.
        of: ``absolute`` (in the claim's unit) or ``relative`` (a share of the printed value).
        why: reason for this width.
    """

    within: float
    of: str
    why: str


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One statement of a paper, and the answer to it.

    Attributes:
        id: short, unique.
        paper: name of the paper.
        figure: place in the paper.
        claim: the statement, in our words.
        printed: the number, or the two ends of a printed range.
        unit: unit of the number.
        kind: one of ``CLAIM_KINDS``.
        answer: ``None`` if nothing in this project can answer it.
        run: the command whose rows answer it.
        tolerance: ``None`` for a range, which must contain our answer.
        gpu: whether its rows need a GPU.
        source: place of the number.
        if_differs: reason why our number differs.
        disputed: result of independent extractions that could not confirm the number.
    """

    id: str
    paper: str
    figure: str
    claim: str
    printed: float | tuple[float, float]
    unit: str
    kind: str
    run: str
    source: str
    answer: AnswerCells | None = None
    tolerance: Tolerance | None = None
    gpu: bool = False
    if_differs: str = ""
    disputed: str = ""

    @property
    def allowed(self) -> tuple[float, float]:
        """Least and greatest allowed answer."""
        if isinstance(self.printed, tuple):
            return self.printed
        assert self.tolerance is not None
        slack = self.tolerance.within * (abs(self.printed) if self.tolerance.of == "relative" else 1)
        return self.printed - slack, self.printed + slack


@lru_cache
def load_claims(path: Path = CLAIMS) -> tuple[Claim, ...]:
    """Return all claims of a file, in its order.

    Raises:
        ValueError: a field is unknown, missing or wrong, or an id comes twice. Names the claim.
    """
    claims = tuple(_claim(item) for item in _items(path))
    ids = [claim.id for claim in claims]
    if twice := {name for name in ids if ids.count(name) > 1}:
        raise ValueError(f"{path.name}: id={', '.join(sorted(twice))} comes twice")
    return claims


_CLAIM = {
    "id": str,
    "claim?": str,
    "printed": (int, float, list),
    "answer?": (dict, None),
    "tolerance?": (dict, None),
    **{f"{name}?": str for name in ("paper", "figure", "unit", "kind", "run", "source", "if_differs", "disputed")},
    "gpu?": bool,
}


_PARTS = {
    "answer": {"figure?": str, "value?": str, "where?": dict, "over?": str},
    "tolerance": {"within?": float, "of?": str, "why?": str},
}


def _items(path: Path) -> list[Any]:
    """Return the entries of a file of claims.

    Raises:
        ValueError: it is no YAML list of mappings, or it is nested without end by an alias.
    """
    try:
        items = yaml.safe_load(read_bytes(path))
    except (yaml.YAMLError, RecursionError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no YAML file: {' '.join(str(error).split())}") from error
    if not (isinstance(items, list) and items and all(isinstance(item, Mapping) for item in items)):
        raise ValueError(f"{path} must hold a list of claims, each with its fields")
    return items


def _claim(item: Mapping[str, Any]) -> Claim:
    name = f"claim {shorten(str(item.get('id', 'without an id')))}"
    values = dict(item)
    check_shape(values, _CLAIM, name)
    if isinstance(values["printed"], list):
        check_shape(values["printed"], [float], name, "printed")
        values["printed"] = tuple(map(float, values["printed"]))
        if len(values["printed"]) != 2:
            raise ValueError(f"{name}: printed={list(values['printed'])} must be a number or a range of two numbers")
    for key, cls in (("answer", AnswerCells), ("tolerance", Tolerance)):
        if values.get(key) is not None:
            check_shape(values[key], _PARTS[key], name, key)
            values[key] = _made(cls, values[key], f"{name}: {key}.")
    claim: Claim = _made(Claim, values, f"{name}: ")
    _check(claim, name)
    return claim


def _made(cls: Any, values: Mapping[str, Any], path: str) -> Any:
    known = {f.name: f for f in dataclasses.fields(cls)}
    if unknown := {str(value) for value in values} - set(known):
        raise ValueError(f"{path}{sorted(unknown)[0]} is not known. The fields are {', '.join(known)}")
    needed = [n for n, f in known.items() if f.default is f.default_factory is dataclasses.MISSING]
    if missing := [n for n in needed if n not in values]:
        raise ValueError(f"{path}{missing[0]} is missing")
    return cls(**values)


def _check(claim: Claim, name: str) -> None:
    if claim.kind not in CLAIM_KINDS:
        raise ValueError(f"{name}: kind={claim.kind} must be one of {', '.join(CLAIM_KINDS)}")
    is_range = isinstance(claim.printed, tuple)
    if is_range == (claim.tolerance is not None):
        raise ValueError(f"{name}: a printed range has no tolerance, and a single number needs one")
    if claim.tolerance is not None and (claim.tolerance.of not in TOLERANCE_UNITS or not claim.tolerance.why):
        units = ", ".join(TOLERANCE_UNITS)
        raise ValueError(f"{name}: tolerance.of must be one of {units}, and tolerance.why must not be empty")
    if claim.answer is not None and claim.answer.over not in REDUCTIONS:
        raise ValueError(f"{name}: answer.over={claim.answer.over} must be one of {', '.join(REDUCTIONS)}")


def printed_values(figure: str, value: str) -> list[tuple[Mapping[str, Any], float]]:
    """Return every printed number for one column of a figure's frame, and its place in the frame."""
    return [
        (claim.answer.where, claim.printed)
        for claim in load_claims()
        if claim.answer is not None
        and (claim.answer.figure, claim.answer.value, claim.answer.over) == (figure, value, "only")
        and not isinstance(claim.printed, tuple)
    ]
