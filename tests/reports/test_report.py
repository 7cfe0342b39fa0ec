"""The report: levels of memory that add up, on a GPU and without, and everything that is null with its reason."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from bench.reports.markdown import markdown_report, reconciliation
from bench.rows.columns import COLUMNS, NAMES

MIB = 2**20
GPU = {
    "scenario": "decode", "implementation": "paged_torch", "status": "ok", "replicate": 0, "null_reasons": {},
    "logical_bytes": 100 * MIB, "storage_bytes": 101 * MIB,
    "torch_allocated_peak_bytes": 110 * MIB, "torch_reserved_peak_bytes": 130 * MIB,
    "torch_reserved_idle_bytes": 4 * MIB, "process_memory_rise_bytes": 140 * MIB, "device_memory_bytes": 143 * MIB,
    "fitness": "ok",
}  # fmt: skip
CPU = {
    "scenario": "decode", "implementation": "contiguous", "status": "ok", "replicate": 0,
    "logical_bytes": 100 * MIB, "storage_bytes": 100 * MIB, "process_memory_rise_bytes": 112 * MIB,
    "null_reasons": {"torch_allocated_peak_bytes": "there is no CUDA device in this point"},
    "fitness": "doubtful", "fitness_reasons": "noisy: the median is known to ± 9% only",
}  # fmt: skip
FAILED = {"scenario": "decode", "implementation": "paged_triton", "status": "unsupported", "replicate": 0,
          "status_reason": "needs device=cuda", "null_reasons": {}}  # fmt: skip


def table_of(*rows: dict[str, Any]) -> pd.DataFrame:
    return pd.DataFrame(list(rows), columns=list(NAMES)).astype({column.name: column.dtype for column in COLUMNS})


def test_the_steps_lead_from_the_policy_to_the_device() -> None:
    (row,) = reconciliation(table_of(GPU)).to_dict("records")
    mib = {name.removesuffix("_bytes"): value / MIB for name, value in row.items() if str(name).endswith("_bytes")}
    assert mib["padding"] == 1
    assert mib["working"] == 9
    assert mib["slack"] == 130 - 4 - 110
    assert mib["rest"] == 140 - (130 - 4)
    assert mib["others"] == 3
    steps = ("logical", "padding", "working", "slack", "rest", "others")
    assert sum(mib[step] for step in steps) == mib["device_rise"]


def test_without_a_gpu_the_process_step_follows_the_tensors() -> None:
    (row,) = reconciliation(table_of(CPU)).to_dict("records")
    assert row["rest_bytes"] == 12 * MIB
    for name in ("working_bytes", "slack_bytes", "device_rise_bytes", "others_bytes"):
        assert pd.isna(row[name])


def test_rows_without_memory_readings_are_left_out() -> None:
    assert reconciliation(table_of(FAILED)).empty


def test_the_report_has_every_part() -> None:
    environment = {"fingerprint": "f00", "cpu_model": "some processor", "git": {"commit": "c0ffee", "dirty": True}}
    text = markdown_report(table_of(GPU, CPU, FAILED), environment, ["figures/decode_latency.png"])
    for said in ("# Run of f00", "- commit: c0ffee (with changes)", "| rest_bytes |", "noisy: the median is known",
                 "- `torch_allocated_peak_bytes`: there is no CUDA device in this point",
                 "needs device=cuda", "![figures/decode_latency.png](figures/decode_latency.png)"):  # fmt: skip
        assert said in text
    assert "calibration" not in text


def test_an_empty_run_has_a_report() -> None:
    assert "None." in markdown_report(table_of(), {}, [])


@pytest.mark.parametrize("missing", ["process_memory_rise_bytes", "device_memory_bytes", "torch_reserved_peak_bytes"])
def test_a_missing_level_is_a_missing_step_and_not_zero(missing: str) -> None:
    (row,) = reconciliation(table_of({**GPU, missing: None})).to_dict("records")
    nulls = {"process_memory_rise_bytes": "rest_bytes", "device_memory_bytes": "others_bytes",
             "torch_reserved_peak_bytes": "slack_bytes"}  # fmt: skip
    assert pd.isna(row[nulls[missing]])
