"""Write a run as a Markdown report, a pure function of its table and its environment.

Its main part is the reconciliation of memory: bytes counted by the policy, allocated by the tensors, and
reported by torch, the process and the device, with the unexplained rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from bench.reports.paging_cost import COSTS, missing_arms, paging_costs
from bench.rows.columns import BY_NAME
from bench.rows.columns.printing import printed_in, value_text
from bench.rows.neutral import for_markdown

NAMING_COLUMNS = [column.name for column in printed_in("report") if column.kind == "identity"]
"""Columns that name a row in every table."""

RESULTS = [column.name for column in printed_in("report") if column.kind != "identity"]
"""Columns of the table of results, without those that are null everywhere."""

MACHINE = ("cpu_model", "cpu_affinity", "cpu_governor", "gpu", "driver", "gpu_ecc", "gpu_mig", "gpu_power_limit_w",
           "system", "python", "torch", "cuda", "triton", "fingerprint", "tool_version")  # fmt: skip


def reconciliation(table: pd.DataFrame) -> pd.DataFrame:
    """Return the bytes of each level of memory, and the steps between them, one row per row with measured memory.

    Columns beside those that name the row:

    - ``logical_bytes``: bytes of the allocated layers by the policy.
    - ``padding_bytes``: bytes of the tensors beyond that.
    - ``working_bytes``: bytes that torch allocated beyond the tensors at its peak (inputs, workspace).
    - ``slack_bytes``: bytes that torch reserved beyond that.
    - ``rest_bytes``: rise of the process beyond all of these, **unexplained**. On a CPU torch reports
      nothing, so it contains inputs and workspace too.
    - ``others_bytes``: rise of the device beyond that of the process.

    Torch's own idle reservation is part of no rise and is subtracted. A step is null if either of
    its ends is null.
    """
    weighed = table[table["storage_bytes"].notna()]
    idle = weighed["torch_reserved_idle_bytes"]
    # Without a GPU torch's levels are unknown, and the process follows the tensors directly.
    explained = (weighed["torch_reserved_peak_bytes"] - idle).fillna(weighed["storage_bytes"])
    return weighed[NAMING_COLUMNS].assign(
        logical_bytes=weighed["logical_bytes"],
        padding_bytes=weighed["storage_bytes"] - weighed["logical_bytes"],
        storage_bytes=weighed["storage_bytes"],
        working_bytes=weighed["torch_allocated_peak_bytes"] - weighed["storage_bytes"],
        slack_bytes=weighed["torch_reserved_peak_bytes"] - idle - weighed["torch_allocated_peak_bytes"],
        process_rise_bytes=weighed["process_memory_rise_bytes"],
        rest_bytes=weighed["process_memory_rise_bytes"] - explained,
        device_rise_bytes=weighed["device_memory_bytes"],
        others_bytes=weighed["device_memory_bytes"] - weighed["process_memory_rise_bytes"],
    )


def markdown_report(table: pd.DataFrame, environment: Mapping[str, Any], figures: Sequence[str]) -> str:
    """Return the report.

    Args:
        table: the rows of a run.
        environment: its ``environment.json``.
        figures: paths of its figures, relative to the folder of the report.
    """
    parts = [
        f"# Run of {for_markdown(str(environment.get('fingerprint', 'an unknown machine')))}",
        _machine(environment),
        "## Results",
        _markdown(table, [*NAMING_COLUMNS, "status", *RESULTS]),
        *_costs(table),
        "## Memory, reconciled",
        "Each level, and the step from the level before it. The rest is unexplained.",
        _markdown(reconciliation(table)),
        *_nulls(table),
        *_doubts(table),
        *_failures(table),
    ]
    if figures:
        parts += ["## Figures", "\n".join(f"![{path}]({path})" for path in figures)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _machine(environment: Mapping[str, Any]) -> str:
    lines = [
        f"- {name}: {for_markdown(str(environment[name]))}" for name in MACHINE if environment.get(name) is not None
    ]
    git = environment.get("git") or {}
    if git.get("commit"):
        lines.append(f"- commit: {for_markdown(str(git['commit']))}{' (with changes)' if git.get('dirty') else ''}")
    if environment.get("calibration"):
        lines.append(f"- calibration: {for_markdown(str(environment['calibration']['file']))}")
    return "\n".join(lines)


def _markdown(table: pd.DataFrame, columns: Iterable[str] | None = None) -> str:
    """Return a Markdown table without columns that are null everywhere."""
    shown = [name for name in columns or table.columns if table[name].notna().any()]
    if table.empty or not shown:
        return "None."
    lines = [shown, ["---"] * len(shown)]
    lines += [[for_markdown(value_text(name, row[name])) for name in shown] for _, row in table.iterrows()]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _costs(table: pd.DataFrame) -> list[str]:
    """Return the cost of paging, taken apart, if the arms exist."""
    costs = paging_costs(table)
    if not costs[list(COSTS)].notna().any(axis=None):
        return []
    meanings = "\n".join(f"- `{name}`: {what}" for name, what in COSTS.items())
    named = ["model", "attention_shape", "num_seqs", "page_layout", "page_size"]
    return ["## What paging costs", meanings, _markdown(costs, [*named, *COSTS]), "\n".join(missing_arms(costs))]


def _nulls(table: pd.DataFrame) -> list[str]:
    """Return the reasons why levels of memory are missing, each once."""
    levels = [name for name, column in BY_NAME.items() if column.kind == "memory"]
    found = [reasons for reasons in table["null_reasons"] if isinstance(reasons, Mapping)]
    lines = {
        f"- `{name}`: {for_markdown(str(reasons[name]))}" for reasons in found for name in levels if name in reasons
    }
    return ["Not measured:", "\n".join(sorted(lines))] if lines else []


def _doubts(table: pd.DataFrame) -> list[str]:
    doubtful = table[table["fitness"] == "doubtful"]
    if doubtful.empty:
        return []
    return ["## Doubtful times", _markdown(doubtful, [*NAMING_COLUMNS, "fitness_reasons"])]


def _failures(table: pd.DataFrame) -> list[str]:
    failed = table[table["status"] != "ok"]
    return ["## Not ok", _markdown(failed, [*NAMING_COLUMNS, "status", "status_reason"])] if len(failed) else []
