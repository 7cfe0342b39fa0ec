"""The table in ``impls/README.md`` is fresh: by a hash of its sources and some rows. All rows under ``-m slow``."""

from __future__ import annotations

import re
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
import triton

from impls.kernels.heuristics import Occupancy, occupancy
from scripts.kernel_report import BEGIN, END
from tests.kernels.table_case import all_rows, digest, subset_rows

README = (Path(__file__).resolve().parents[2] / "impls" / "README.md").read_text()
STALE = "run: python scripts/kernel_report.py --update"
MADE_WITH = re.search(re.escape(BEGIN) + r" of sources (\w+) with triton (\S+) -->", README)
SAME_TRITON = pytest.mark.skipif(
    MADE_WITH is not None and MADE_WITH[2] != triton.__version__,
    reason=f"the table was made with another Triton than {triton.__version__}, which may take other registers",
)


def shown() -> list[str]:
    lines = README.split(BEGIN)[1].split(END)[0].splitlines()
    return lines[3:]


def test_it_was_made_of_these_sources(compiler: ProcessPoolExecutor) -> None:
    assert MADE_WITH is not None, STALE
    assert MADE_WITH[1] == compiler.submit(digest).result(), STALE


@SAME_TRITON
def test_some_of_its_rows_compile_to_what_it_says(compiler: ProcessPoolExecutor) -> None:
    rows = compiler.submit(subset_rows).result()
    assert len(rows) == 10
    assert set(rows) <= set(shown()), STALE


@SAME_TRITON
@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_all_of_its_rows_compile_to_what_it_says(compiler: ProcessPoolExecutor) -> None:
    assert compiler.submit(all_rows).result() == shown(), STALE


def test_nothing_spills() -> None:
    assert "spilled" not in "".join(shown())


@pytest.mark.parametrize(
    ("registers", "shared_bytes", "num_warps", "capability", "expected"),
    [
        (128, 0, 4, 90, Occupancy(4, 0.25)),  # 65,536 registers / (128 · 32 · 4)
        (129, 0, 4, 90, Occupancy(3, 0.1875)),  # 136 of them are given out
        (32, 100 * 1024, 4, 80, Occupancy(1, 0.0625)),  # 164 KiB
        (32, 0, 8, 89, Occupancy(6, 1.0)),  # 48 warps
    ],
)
def test_occupancy(registers: int, shared_bytes: int, num_warps: int, capability: int, expected: Occupancy) -> None:
    assert occupancy(registers, shared_bytes, num_warps, capability) == expected
