"""Schedules of the PagedAttention paper's artifact: no request differs, to the femtosecond.

The schedules in ``synthetic/`` are over drawn lengths. Those over published lengths are in ``../shared/golden``.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.scenarios.serving.engines.base import Engine
from bench.scenarios.serving.engines.events import EventReplay
from bench.scenarios.serving.engines.steps import PlainReplay
from tests.conftest import ROOT
from tests.support.schedules import read_schedule

SYNTHETIC = Path(__file__).parent / "synthetic"
PUBLISHED = ROOT.parent / "shared" / "golden"
WITH_PUBLISHED_LENGTHS = (
    "orca_max_sharegpt",
    "orca_pow2_sharegpt",
    "orca_oracle_sharegpt",
    "orca_pow2_alpaca",
    "orca_oracle_4_samples_alpaca",
    "vllm_recompute_sharegpt",
    "vllm_swap_sharegpt",
    "vllm_4_samples_alpaca",
)


def names_in(folder: Path) -> list[str]:
    """Return the schedules of a folder."""
    return sorted(path.name.removesuffix(".csv.gz") for path in folder.glob("*.csv.gz"))


def check(folder: Path, name: str, engine: type[Engine]) -> None:
    schedule = read_schedule(folder, name)
    record = schedule.replay(engine)
    assert schedule.differing(record) == []
    counts = {count: record.count[count] for count in ("steps", "preemptions")}
    assert {"requests": len(schedule.load), **counts} == schedule.counts


@pytest.mark.parametrize("engine", [EventReplay, PlainReplay])
@pytest.mark.parametrize("name", names_in(SYNTHETIC))
def test_no_request_differs_over_drawn_lengths(name: str, engine: type[Engine]) -> None:
    check(SYNTHETIC, name, engine)


@pytest.mark.parametrize("engine", [EventReplay, PlainReplay])
@pytest.mark.parametrize("name", sorted({*WITH_PUBLISHED_LENGTHS, *names_in(PUBLISHED)}))
def test_no_request_differs_over_published_lengths(name: str, engine: type[Engine]) -> None:
    if not PUBLISHED.is_dir():
        pytest.skip("../shared/golden is absent: its schedules contain published lengths, which are not kept here")
    check(PUBLISHED, name, engine)


def test_each_system_of_the_paper_has_a_schedule() -> None:
    systems = {"_".join(name.split("_")[:2]) for name in names_in(SYNTHETIC)}
    assert systems >= {"orca_max", "orca_pow2", "orca_oracle", "vllm_recompute", "vllm_swap"}
