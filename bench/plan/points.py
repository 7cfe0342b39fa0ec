"""Make, store and read a plan: composed points are resolved, checked, keyed and merged if they are equal."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from bench.config import Config, build
from bench.plan.code_hash import CodeHashes
from bench.plan.declared import check_declared
from bench.plan.predict import predict
from bench.plan.question import KEY_VERSION, effective, key_of, resolve
from bench.rows.json_input import NAME, check_shape, read_json
from bench.rows.redact import restored

PLAN_VERSION = 2
"""Incremented when older stored plans can no longer be run, because they name modules that have moved.

Plans of version 1 do not contain a version.
"""


@dataclass(frozen=True, kw_only=True)
class Composed:
    """One point as Hydra composed it.

    Attributes:
        values: the configuration as plain containers.
        overrides: the overrides that produced it.
    """

    values: Mapping[str, Any]
    overrides: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Point:
    """One point of the plan.

    Attributes:
        key: hash of ``question``.
        question: effective parameters. Parameters without effect are null.
        config: resolved configuration.
        overrides: command-line overrides that produce the configuration.
        predicted: sizes that are known before the point runs (``bench.plan.predict.Prediction``).
        skip_status: status of its rows if it will not be run, else ``None``.
        skip_reason: why it will not be run.
        code_hash: hash of the code that can change its result (see ``bench.plan.code_hash``).
    """

    key: str
    question: Mapping[str, Any]
    config: Config
    overrides: tuple[str, ...]
    predicted: Mapping[str, int]
    skip_status: str | None
    skip_reason: str | None
    code_hash: str

    def to_json(self) -> dict[str, Any]:
        """Return plain containers for ``plan.json``."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.name != "config"}
        return {**fields, "values": self.config.to_json()}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Point:
        """Return the point that ``to_json`` wrote.

        Raises:
            ValueError: its configuration is wrong.
        """
        fields = dict(content)
        values = fields.pop("values")
        return cls(**{**fields, "config": build(values), "overrides": tuple(fields["overrides"])})


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All points of a run, made before the first one runs."""

    points: tuple[Point, ...]
    replicates: int
    merged: int  # points that were dropped because their key is equal to that of an earlier one
    config_dirs: tuple[str, ...] = ()  # --config-dir folders, on the import path of every process
    warnings: tuple[str, ...] = ()  # sentences of bench.plan.warnings
    key_version: int = KEY_VERSION
    plan_version: int = PLAN_VERSION

    def jobs(self) -> list[tuple[Point, int]]:
        """Return (point, replicate) of every job, round by round, so that replicates are interleaved."""
        return [(point, replicate) for replicate in range(self.replicates) for point in self.points]

    def with_present_code(self) -> Plan:
        """Return a plan of the same points with the hashes of the present code, for a resumed run with mixed rows."""
        hashes = CodeHashes()
        points = tuple(dataclasses.replace(point, code_hash=hashes.of(point.config)) for point in self.points)
        return dataclasses.replace(self, points=points)

    def to_json(self) -> dict[str, Any]:
        """Return plain containers for ``plan.json``."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {**fields, "points": [point.to_json() for point in self.points]}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Plan:
        """Return the plan that ``to_json`` wrote."""
        points = tuple(Point.from_json(point) for point in content["points"])
        lists = {name: tuple(content[name]) for name in ("config_dirs", "warnings")}
        return cls(**{**content, "points": points, **lists})


class PlannedJob(NamedTuple):
    """The fields of a planned job that reports use. Plans of every version contain them.

    Attributes:
        key: key of its point.
        question: effective parameters of its point.
        replicate: number from 0 to replicates − 1.
    """

    key: str
    question: Mapping[str, Any]
    replicate: int


def read_plan(run_dir: Path, config_dirs: Sequence[str] = (), given: Mapping[str, Any] | None = None) -> Plan:
    """Return the plan of a run folder, which is data and may come from another person.

    Nothing is imported before all checks have passed.

    Args:
        run_dir: the run folder.
        config_dirs: ``--config-dir`` folders of the present command. Those of the plan are not used.
        given: the composed configuration of the present command, whose code is trusted, too.

    Raises:
        ValueError: the folder has no plan, a plan of an older version, or a wrong plan.
    """
    path, content = run_dir / PLAN, _read_plan(run_dir)
    version = content.get("plan_version", 1)
    if version != PLAN_VERSION:
        age = "an older" if version < PLAN_VERSION else "a newer"
        raise ValueError(
            f"{run_dir.name} cannot be resumed: it is from {age} version of this project (plan version {version}, "
            f"required is {PLAN_VERSION}). Its rows can still be compared, drawn and reported. Start a new run for the "
            "jobs that have no row"
        )
    content = restored(content)
    check_shape(content, _WHOLE_PLAN, path)
    points = content["points"]
    for point in points:
        if point["key"] != key_of(point["question"]):
            raise ValueError(f"{path}: key={point['key']} is not the hash of its question. The file was edited")
    _check_config_dirs(content["config_dirs"], config_dirs, path)
    check_declared(points, config_dirs, given or {}, path)
    try:
        plan = Plan.from_json({**content, "config_dirs": list(config_dirs)})
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error
    for point in plan.points:
        if key_of(effective(point.config)) != point.key:
            raise ValueError(
                f"{path}: the values of point {point.key} do not give its key. The plan or a trace changed"
            )
    return plan


def _check_config_dirs(stored: Sequence[str], given: Sequence[str], path: Path) -> None:
    """Check that the ``--config-dir`` folders of the plan were given again.

    Raises:
        ValueError: one was not.
    """
    absent = [folder for folder in stored if Path(folder).resolve() not in {Path(name).resolve() for name in given}]
    if absent:
        raise ValueError(
            f"{path} was planned with {' '.join(f'--config-dir={folder}' for folder in absent)}. A run folder is data, "
            "and no code is loaded because of it. If you trust the folder, give this option again"
        )


def read_jobs(run_dir: Path) -> list[PlannedJob]:
    """Return the jobs of a run folder's plan, round by round, without building their configurations.

    Raises:
        ValueError: the folder has no plan, or a wrong one.
    """
    plan = _read_plan(run_dir)
    return [
        PlannedJob(point["key"], point.get("question", {}), replicate)
        for replicate in range(plan["replicates"])
        for point in plan["points"]
    ]


PLAN = "plan.json"
"""Name of the plan in its run folder."""
MAX_JOBS = 10**6
_JOBS = {"points": [{"key": NAME, "question?": dict}], "replicates": int, "plan_version?": int}
"""The part of a plan of any version that reports read."""
_NAMED = {"name": str}
_WHOLE_PLAN = {
    **_JOBS,
    "merged": int,
    "config_dirs": [str],
    "warnings": [str],
    "key_version": int,
    "points": [
        {
            "key": NAME,
            "question": dict,
            "overrides": [str],
            "predicted": dict,
            "skip_status": (str, None),
            "skip_reason": (str, None),
            "code_hash": str,
            "values": {
                "scenario": {**_NAMED, "processes?": [str]},
                "impl": _NAMED,
                "policy": _NAMED,
            },
        }
    ],
}


def _read_plan(run_dir: Path) -> dict[str, Any]:
    path = run_dir / PLAN
    if not path.exists():
        raise ValueError(f"{run_dir} is no run folder: it has no plan.json")
    content: dict[str, Any] = read_json(path, "plan")
    check_shape(content, _JOBS, path)
    if not 0 <= content["replicates"] * len(content["points"]) <= MAX_JOBS:
        raise ValueError(f"{path}: replicates={content['replicates']} must give at most {MAX_JOBS:,} jobs")
    return content


def make_plan(
    composed: Iterable[Composed], configs: Iterable[Config], device: str | None, device_memory: int | None = None
) -> Plan:
    """Resolve, check and key every point, and keep the first of several points with the same key.

    Args:
        composed: the points, in order.
        configs: the checked configuration of each point, in the same order.
        device: device that replaces ``device=auto``, ``cpu`` or ``cuda``. ``None`` if no point has tensors.
        device_memory: bytes of memory of that device, if known.

    Raises:
        ValueError: a point is invalid, or no point of the plan can run.
    """
    points: dict[str, Point] = {}
    hashes, total = CodeHashes(), 0
    for source, config in zip(composed, configs, strict=True):
        total += 1
        resolved = resolve(config, device)
        question = effective(resolved)
        key = key_of(question)
        if key not in points:
            points[key] = _make_point(source, resolved, question, device_memory, hashes)
    plan = Plan(points=tuple(points.values()), replicates=config.replicates, merged=total - len(points))
    if all(point.skip_status == "unsupported" for point in plan.points):
        raise ValueError(f"no point of the plan can run: {plan.points[0].skip_reason}")
    return plan


def _make_point(
    source: Composed, config: Config, question: Mapping[str, Any], device_memory: int | None, hashes: CodeHashes
) -> Point:
    prediction = predict(config, device_memory)
    return Point(
        key=key_of(question),
        question=question,
        config=config,
        overrides=source.overrides,
        predicted=prediction.sizes,
        skip_status=prediction.status,
        skip_reason=prediction.reason,
        code_hash=hashes.of(config),
    )
