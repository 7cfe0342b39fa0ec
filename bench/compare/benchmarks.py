"""What pytest-benchmark wrote, as a side of a comparison or as a run folder.

One file is one process, so it is one replicate; five files of the same tests make five. Their
medians are what is compared, as everywhere: the rounds within one process are no replicates.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.compare.side import Side
from bench.rows.columns import MAY_BE_NULL, NAMES
from bench.rows.facts import fingerprint
from bench.rows.json_file import write_json
from bench.rows.json_input import read_json
from bench.rows.record import SCHEMA_VERSION, write_row
from bench.rows.redact import hashed
from bench.rows.run_folder import create_run_folder, write_environment
from bench.rows.table import load_rows, typed, write_table

SCENARIO = "pytest_benchmark"


def is_benchmark(path: Path) -> bool:
    """Whether a path is for ``load_benchmarks``: a JSON file, or a folder of JSON files that is no run."""
    if path.is_dir():
        is_run = any((path / part).exists() for part in ("plan.json", "points", "environment.json"))
        return not is_run and any(path.rglob("*.json"))
    return path.is_file()


def load_benchmarks(path: Path) -> Side:
    """Load one or more files of one machine as one side.

    Raises:
        ValueError: a file that pytest-benchmark did not write, or files of different machines.
    """
    files = sorted(path.rglob("*.json")) if path.is_dir() else [path]
    contents = sorted((_content(file) for file in files), key=lambda content: content["datetime"])
    facts = _facts(contents[0])
    if any(_facts(content)["fingerprint"] != facts["fingerprint"] for content in contents):
        raise ValueError(f"{path} holds files of different machines; compare the files of one")
    rows = [row for replicate, content in enumerate(contents) for row in _rows(content, replicate)]
    if len({(row["key"], row["replicate"]) for row in rows}) < len(rows):
        raise ValueError(f"{path}: a benchmark is there twice in one file")
    table = typed(rows, path)
    planned = dict.fromkeys(table["key"], len(contents))
    return Side(name=str(path), table=table, facts=facts, planned=planned)


def _content(path: Path) -> dict[str, Any]:
    try:
        content = read_json(path)
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(content, dict) or any(
        content.get(name) is None for name in ("machine_info", "benchmarks", "datetime")
    ):
        raise ValueError(f"{path} is neither a run folder nor what pytest-benchmark --benchmark-json writes")
    _check(content, PARTS_OF_A_FILE, str(path))
    if not content["benchmarks"]:
        raise ValueError(f"{path} holds no benchmark")
    for benchmark in content["benchmarks"]:
        if not isinstance(benchmark, dict) or not isinstance(benchmark.get("fullname"), str):
            raise ValueError(f"{path} holds a benchmark without a fullname")
        _check(benchmark, PARTS_OF_A_BENCHMARK, f"{path}: {benchmark['fullname']}")
    _check(content["machine_info"], {"cpu": dict}, f"{path}: machine_info")
    return {**content, "path": str(path)}


PARTS_OF_A_FILE: Mapping[str, type] = {"machine_info": dict, "benchmarks": list, "datetime": str, "commit_info": dict}
PARTS_OF_A_BENCHMARK: Mapping[str, type] = {"stats": dict, "options": dict}


def _check(content: Mapping[str, Any], parts: Mapping[str, type], where: str) -> None:
    """Refuse a part of another type; one that is null or absent is not there."""
    kinds: Mapping[type, str] = {dict: "an object", list: "a list", str: "a text"}
    for name, kind in parts.items():
        if content.get(name) is not None and not isinstance(content[name], kind):
            raise ValueError(f"{where}: {name} must be {kinds[kind]} of JSON")


def _facts(content: Mapping[str, Any]) -> dict[str, Any]:
    machine, commit = content["machine_info"], content.get("commit_info") or {}
    cpu = machine.get("cpu") or {}
    facts = {
        "schema_version": SCHEMA_VERSION,
        "python": machine.get("python_version"),
        "machine": machine.get("machine"),
        "system": f"{machine.get('system')} {machine.get('release')}",
        "cpu_model": cpu.get("brand_raw", cpu.get("brand")),  # the latter before py-cpuinfo 6
        "git": {"commit": commit.get("id"), "dirty": commit.get("dirty")},
        "packages": {"pytest-benchmark": content.get("version")},
    }
    return {**facts, "fingerprint": fingerprint(facts)}


def _rows(content: Mapping[str, Any], replicate: int) -> list[dict[str, Any]]:
    process = hashed(json.dumps([content["datetime"], content["machine_info"]], sort_keys=True))
    return [
        {
            "key": key_of_benchmark(benchmark["fullname"]),
            "replicate": replicate,
            "status": "ok",
            "scenario": SCENARIO,
            "benchmark": benchmark["fullname"],
            "benchmark_us": _median_us(benchmark, content["path"]),
            "server_id": process,
            "fingerprint": _facts(content)["fingerprint"],
            "timer": str((benchmark.get("options") or {}).get("timer", "perf_counter")),
        }
        for benchmark in content["benchmarks"]
    ]


def _median_us(benchmark: Mapping[str, Any], path: str) -> float:
    median_s = (benchmark.get("stats") or {}).get("median")
    if (
        isinstance(median_s, bool)
        or not isinstance(median_s, (int, float))
        or not math.isfinite(median_s)
        or median_s <= 0
    ):
        raise ValueError(f"{path}: the median of {benchmark['fullname']} is {median_s}; it must be above 0 and finite")
    return 1e6 * median_s


def key_of_benchmark(fullname: str) -> str:
    """The key of a benchmark: its name holds its parameters; no code and no machine is in it."""
    return hashlib.sha256(json.dumps([SCENARIO, fullname]).encode()).hexdigest()[:16]


def write_run(side: Side, run_dir: Path) -> None:
    """Store what ``load_benchmarks`` read as a run folder, with the same keys.

    Raises:
        ValueError: the folder holds a run already, or cannot be written.
    """
    folder = create_run_folder(str(run_dir))
    rows = side.table.astype(object).where(side.table.notna(), None).to_dict("records")
    write_environment(folder, dict(side.facts))
    write_json(folder / "plan.json", _plan(rows, max(side.planned.values())))
    reason = "pytest-benchmark does not measure it"
    for row in rows:
        reasons = {name: reason for name in NAMES if row[name] is None and name not in MAY_BE_NULL}
        write_row(folder, {**{str(name): value for name, value in row.items()}, "null_reasons": reasons}, {})
    write_table(load_rows(folder), folder)


def _plan(rows: Sequence[Mapping[Any, Any]], replicates: int) -> dict[str, Any]:
    points = [
        {
            "key": row["key"],
            "question": {"scenario": {"name": SCENARIO}, "impl": {"name": row["benchmark"]}, "policy": None,
                         "page_size": None, "num_seqs": None, "page_layout": None},
            "values": {},
            "overrides": [],
            "predicted": {},
            "skip_status": None,
            "skip_reason": None,
            "code_hash": "",
        }
        for row in rows
        if row["replicate"] == 0
    ]  # fmt: skip
    return {"points": points, "replicates": replicates, "merged": 0, "config_dirs": [], "warnings": [],
            "key_version": 1}  # fmt: skip
