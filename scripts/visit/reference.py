"""From the archives of a visit to a reference folder: which rows are taken, which are refused, and why."""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.rows.json_file import write_json
from bench.rows.record import RETRYABLE, complete, read_row
from bench.runner.job import RUN_CONTROL
from scripts.visit.table import as_markdown, compared

KEPT = ("facts/facts.json", "check/check.json", "kernels/checks.json", "kernels/timings.json", "tiles/tiles.json",
        "calibration/calibration.json")  # fmt: skip
"""Files beside the sweeps that a reference keeps."""
REFUSED = "refused.json"
"""Reasons of the rows that were left out, by sweep and job."""
FIGURE = "decode_latency.png"


@dataclass(kw_only=True)
class Sweep:
    """One sweep of one or several archives.

    Attributes:
        plan: ``plan.json``.
        environment: ``environment.json``.
        rows: by job name.
        refused: reason of each row that was left out, by job name.
    """

    plan: dict[str, Any]
    environment: dict[str, Any]
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)


def read_sweeps(archives: Sequence[Mapping[str, bytes]]) -> dict[str, Sweep]:
    """Return the sweeps of some archives by name. A job in two archives keeps its later final row.

    Args:
        archives: files by name, of ``read_archive``, earliest first.

    Raises:
        ValueError: the archives hold no sweep, or rows of two different cards.
    """
    sweeps: dict[str, Sweep] = {}
    for files in archives:
        for path in files:
            match = re.fullmatch(r"sweeps/([^/]+)/plan\.json", path)
            if match:
                _add(sweeps, match[1], files)
    if not sweeps:
        raise ValueError("the archives hold no sweep")
    _check_one_card(sweeps)
    for sweep in sweeps.values():
        _refuse(sweep)
    return sweeps


def _add(sweeps: dict[str, Sweep], name: str, files: Mapping[str, bytes]) -> None:
    """Add what one archive holds of a sweep."""
    folder = f"sweeps/{name}"
    plan, environment = _json(files, f"{folder}/plan.json"), _json(files, f"{folder}/environment.json")
    if name not in sweeps:
        sweeps[name] = Sweep(plan=plan, environment=environment)
    sweep = sweeps[name]
    if _card(environment) != _card(sweep.environment):
        raise ValueError(f"sweep {name}: {_two_cards(environment, sweep.environment)}")
    known = {point["key"] for point in sweep.plan["points"]}
    sweep.plan["points"] += [point for point in plan["points"] if point["key"] not in known]
    for path in files:
        match = re.fullmatch(rf"{re.escape(folder)}/points/([0-9a-f]+-\d+)\.json", path)
        if match is None:
            continue
        row, earlier = _json(files, path), sweep.rows.get(match[1])
        if earlier is None or earlier["status"] in RETRYABLE or row["status"] not in RETRYABLE:
            sweep.rows[match[1]] = row


def _json(files: Mapping[str, bytes], path: str) -> dict[str, Any]:
    try:
        content = json.loads(files[path])
    except (KeyError, ValueError) as error:
        raise ValueError(f"the archive has no whole {path}: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"the archive's {path} is no JSON object")
    return content


def _card(environment: Mapping[str, Any]) -> tuple[Any, Any]:
    return environment.get("gpu"), environment.get("gpu_uuid_hash")


def _two_cards(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    return f"rows of two different cards, {_card(one)} and {_card(other)}; make a reference of each"


def _check_one_card(sweeps: Mapping[str, Sweep]) -> None:
    first, *others = sweeps.values()
    for sweep in others:
        if _card(sweep.environment) != _card(first.environment):
            raise ValueError(_two_cards(first.environment, sweep.environment))


def _refuse(sweep: Sweep) -> None:
    """Leave out rows that must not become a reference."""
    newest: dict[Any, Any] = {row["implementation"]: row["code_hash"] for row in sweep.rows.values()}
    for job, row in list(sweep.rows.items()):
        reason = refusal(row, newest[row["implementation"]])
        if reason:
            sweep.refused[job] = reason
            del sweep.rows[job]


def refusal(row: Mapping[str, Any], code_hash: Any) -> str | None:
    """Return why a row must not become a reference, or ``None``.

    Args:
        row: the row.
        code_hash: of the newest row of its implementation.
    """
    if row.get("mixed"):
        return "mixed: the run was resumed with other code or on another machine"
    if row["code_hash"] != code_hash:
        return "made by other code than the later rows of its implementation"
    if row.get("fitness") == "doubtful":
        codes = [reason.partition(":")[0] for reason in str(row.get("fitness_reasons")).split("; ")]
        return f"doubtful: {', '.join(codes)}"
    if row["status"] == "interrupted":
        return "interrupted"
    return None


def slug(environment: Mapping[str, Any]) -> str:
    """Return the name of the folder of a device.

    >>> slug({"gpu": "NVIDIA H100 80GB HBM3"})
    'nvidia-h100-80gb-hbm3'
    """
    name = environment.get("gpu") or environment.get("cpu_model") or "unknown"
    return re.sub(r"[^a-z0-9]+", "-", str(name).lower()).strip("-")


def write_reference(folder: Path, sweeps: Mapping[str, Sweep], archives: Sequence[Mapping[str, bytes]]) -> None:
    """Write a run folder per sweep and what was refused, in the place of what is there.

    A subfolder with a README of its own stays.

    Raises:
        ValueError: the folder holds something else or a reference of another card, or a row is not whole.
    """
    _check_place(folder, sweeps)
    folder.mkdir(parents=True, exist_ok=True)
    kept = kept_folders(folder)
    for entry in list(folder.iterdir()):
        if entry.is_file():
            entry.unlink()
        elif entry.name not in kept:
            shutil.rmtree(entry)
    for name, sweep in sweeps.items():
        (folder / name / "points").mkdir(parents=True)
        write_json(folder / name / "plan.json", {**sweep.plan, "points": [_lasting(p) for p in sweep.plan["points"]]})
        git = {**(sweep.environment.get("git") or {}), "remotes": []}
        write_json(folder / name / "environment.json", {**sweep.environment, "argv": ["visit"], "git": git})
        for job, row in sweep.rows.items():
            version = row["schema_version"]
            whole = complete({key: value for key, value in row.items() if key != "schema_version"} | {"log": None})
            write_json(folder / name / "points" / f"{job}.json", {"schema_version": version, **whole})
    write_json(folder / REFUSED, {name: sweep.refused for name, sweep in sweeps.items() if sweep.refused})
    for path in KEPT:
        found = [files[path] for files in archives if path in files]
        if found:
            write_json(folder / Path(path).name, json.loads(found[-1]))


def kept_folders(folder: Path) -> list[str]:
    """Return the subfolders of a reference that were written by hand: those with a README."""
    return sorted(path.parent.name for path in folder.glob("*/README.md"))


def read_reference(folder: Path) -> dict[str, Sweep]:
    """Return the sweeps of a reference by name.

    Args:
        folder: what ``write_reference`` wrote.

    Raises:
        ValueError: it holds no sweep.
    """
    refused = json.loads((folder / REFUSED).read_text(encoding="utf-8")) if (folder / REFUSED).exists() else {}
    sweeps = {}
    for plan in sorted(folder.glob("*/plan.json")):
        run = plan.parent
        sweeps[run.name] = Sweep(
            plan=json.loads(plan.read_text(encoding="utf-8")),
            environment=json.loads((run / "environment.json").read_text(encoding="utf-8")),
            rows={path.stem: read_row(path) for path in sorted((run / "points").glob("*.json"))},
            refused=refused.get(run.name, {}),
        )
    if not sweeps:
        raise ValueError(f"{folder} holds no sweep of a visit")
    return sweeps


def _check_place(folder: Path, sweeps: Mapping[str, Sweep]) -> None:
    """Refuse a folder that holds something else, or a reference of another card."""
    if folder.exists() and not (folder / "README.md").is_file() and any(folder.iterdir()):
        raise ValueError(f"{folder} holds something that is no reference of a visit; choose another --name")
    ours = _card(next(iter(sweeps.values())).environment)
    for path in sorted(folder.glob("*/environment.json")):
        theirs = _card(json.loads(path.read_text(encoding="utf-8")))
        if theirs != ours:
            raise ValueError(f"{folder} holds a reference of another card, {theirs}; choose another --name")


def _lasting(point: dict[str, Any]) -> dict[str, Any]:
    """A planned point without what only spoke of its own run."""
    kept = [override for override in point["overrides"] if override.partition("=")[0] not in RUN_CONTROL]
    return {**point, "overrides": kept, "values": {**point["values"], "run_dir": None}}


def readme(
    sweeps: Mapping[str, Sweep], facts: Mapping[str, Any], claims: str, *, figure: str = "", others: Sequence[str] = ()
) -> str:
    """Return the README: the machine, one table of decode rows, counts of rows, claims that need a GPU.

    Args:
        sweeps: by name.
        facts: ``facts.json``. Empty if there is none.
        claims: a Markdown table.
        figure: file name of a figure. Empty without one.
        others: names of subfolders with a README of their own.
    """
    environment = next(iter(sweeps.values())).environment
    bandwidth = facts.get("bandwidth") or {}
    machine = [f"- {name}: {environment[name]}" for name in ("gpu", "driver", "cuda", "torch", "triton", "python")
               if environment.get(name) is not None]  # fmt: skip
    machine += [f"- {name}: {value:.0f}" for name, value in bandwidth.items() if name.endswith("_gbps")]
    rows = [(name, row) for name, sweep in sweeps.items() for row in sweep.rows.values()]
    ceilings = sorted({f"{row['ceiling_gbps']:.0f}" for _, row in rows if row.get("ceiling_gbps")})
    machine += [f"- read ceiling of the rows: {', '.join(ceilings)} GB/s"] if ceilings else []
    counts = ["| sweep | ok | other | refused |\n", "| --- | --- | --- | --- |\n"]
    for name, sweep in sweeps.items():
        good = sum(row["status"] == "ok" for row in sweep.rows.values())
        counts.append(f"| {name} | {good} | {len(sweep.rows) - good} | {len(sweep.refused)} |\n")
    reasons = Counter(reason for sweep in sweeps.values() for reason in sweep.refused.values())
    refused = "".join(f"- {count} rows: {reason}\n" for reason, count in reasons.most_common())
    parts = [
        f"# {environment.get('gpu') or environment.get('cpu_model')}\n",
        "Rows of a visit (docs/gpu_visit.md), merged by `scripts/visit_to_reference.py`.\n",
        "\n".join(machine) + "\n",
        *(f"[`{name}/`]({name}/README.md) holds more.\n" for name in others),
        "## Decode\n",
        *([f"![Decode latency by page size]({figure})\n"] if figure else []),
        "`to fastest other`: time divided by that of the fastest other implementation on the same batch.\n",
        as_markdown(compared(rows)),
        "## Rows\n",
        "".join(counts),
        *(["Rows that were refused:\n", refused] if refused else []),
        "## Claims that need a GPU\n",
        claims,
    ]
    return "\n".join(parts)
