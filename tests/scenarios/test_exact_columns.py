"""Exact columns have the same value on every processor: integer statistics, and points under other kernels."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from fractions import Fraction
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.rows.columns import BY_NAME
from bench.scenarios.exact_statistics import TICKS, mean, percentile, quantile, ticks, weighted_percentile
from tests.conftest import ROOT
from tests.support.points import Composed, plan_of

CHILD = """
import json, sys
from bench.scenarios.memory.churn import run_churn
from bench.scenarios.serving.scenario import run_serving
serving, churn = json.load(sys.stdin)
answers = [run_serving({"config": serving}), run_churn({"config": churn})]
print(json.dumps([answer.values for answer in answers]))
"""
SERVING = Composed("scenario=serving", "policy=paged", "workload=lognormal", num_seqs=60, memory_budget="24MiB",
                   scenario={"arrivals": "gamma", "cv": 2.0, "rate": 20.0})  # fmt: skip
CHURN = Composed("scenario=churn", "policy=reserved_oracle", num_seqs=60, memory_budget="16MiB",
                 scenario={"queue": "open", "rate": 0.3})  # fmt: skip
KERNELS = {"Prescott": "SSE3", "Sandybridge": "AVX", "Haswell": "AVX2", "Zen": "AVX2", "SkylakeX": "AVX512F"}
"""Sets of OpenBLAS kernels, and the instructions that they need."""

numbers = st.lists(st.integers(0, 10**18), min_size=1, max_size=30).map(sorted)


def exact_columns(**variables: str) -> list[dict[str, Any]]:
    """The exact columns of both points, computed in a process with these environment variables."""
    configs = [plan_of(point).points[0].config.to_json() for point in (SERVING, CHURN)]
    done = subprocess.run([sys.executable, "-c", CHILD], input=json.dumps(configs), capture_output=True, text=True,
                          cwd=ROOT, env={**os.environ, **variables}, timeout=120, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [
        {name: value for name, value in row.items() if BY_NAME[name].kind == "exact"} for row in json.loads(done.stdout)
    ]


@cache
def on_this_processor() -> list[dict[str, Any]]:
    return exact_columns()


def instructions() -> set[str]:
    """Return the features of this processor that NumPy reports."""
    found = set(np.show_config(mode="dicts")["SIMD Extensions"].get("found", []))
    found |= {"SSE3"} | ({"AVX", "AVX2"} if found & {"AVX2", "X86_V3"} else set())
    return found | ({"AVX512F"} if "X86_V4" in found else set())


@pytest.mark.parametrize("kernels", KERNELS)
def test_exact_columns_do_not_depend_on_the_blas_kernels(kernels: str) -> None:
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]["name"]
    if "openblas" not in blas:
        pytest.skip(f"NumPy's BLAS is {blas}: OPENBLAS_CORETYPE has no effect")
    if platform.machine() not in ("x86_64", "AMD64") or KERNELS[kernels] not in instructions():
        pytest.skip(f"this processor has no {KERNELS[kernels]}, which the kernels of {kernels} need")
    assert exact_columns(OPENBLAS_CORETYPE=kernels) == on_this_processor()


@pytest.mark.parametrize("families", [("AVX512", "X86_V4"), ("AVX", "FMA", "X86_V3", "X86_V4")], ids=["512", "256"])
def test_exact_columns_do_not_depend_on_the_vector_width(families: tuple[str, ...]) -> None:
    found = np.show_config(mode="dicts")["SIMD Extensions"].get("found", [])
    chosen = [name for name in found if name.startswith(families)]
    if not chosen:
        pytest.skip(f"NumPy uses none of {', '.join(families)} here")
    assert exact_columns(NPY_DISABLE_CPU_FEATURES=" ".join(chosen)) == on_this_processor()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="GLIBC_TUNABLES chooses the C library's functions")
def test_exact_columns_do_not_depend_on_the_c_librarys_functions() -> None:
    tunables = "glibc.cpu.hwcaps=-AVX2,-FMA,-FMA4"
    assert exact_columns(GLIBC_TUNABLES=tunables) == on_this_processor()


def test_the_points_have_latencies_and_fragmentation() -> None:
    serving, churn = on_this_processor()
    assert serving["itl_ms_mean"] > 0
    assert serving["preemptions"] > 0
    assert 0 < churn["largest_free_ratio"] < 1


@given(numbers, st.integers(0, 100))
def test_percentiles_are_those_of_numpy(values: list[int], percent: int) -> None:
    found = percentile(values, percent, unit=1000)
    assert found == pytest.approx(np.percentile(np.array(values, dtype=float) / 1000, percent), rel=1e-12, abs=1e-12)
    assert quantile(values, 10 * percent, 1000) == 10 * quantile(values, percent, 100)


@given(numbers)
def test_means_are_exact_where_floats_lose_digits(values: list[int]) -> None:
    shifted = [value + 10**30 for value in values]
    assert mean(shifted, unit=8) == float(sum(map(Fraction, shifted)) / 8 / len(shifted))
    assert ticks(values[0], 3) * 3 <= values[0] * TICKS < (ticks(values[0], 3) + 1) * 3


def test_a_weighted_percentile_at_a_border_takes_the_value_that_reaches_it() -> None:
    """0.07 * 100 is 7.000000000000001 as a float: the next value was taken."""
    assert weighted_percentile(np.array([1, 2]), np.array([7, 93]), 7) == 1
    assert weighted_percentile(np.array([1, 2]), np.array([7, 93]), 8) == 2
