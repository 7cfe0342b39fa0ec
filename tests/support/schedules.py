"""Schedules made by the scheduler of the PagedAttention paper's artifact, and their replay by our engines.

A schedule is a CSV file with one row per request: arrival, lengths, and when its first and last token came, in
femtoseconds. ``settings.json`` beside it holds the time of a step, the pool, the limits, and the counts of each run.
"""

from __future__ import annotations

import csv
import gzip
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.config.serving import ServingScenario
from bench.scenarios.serving.cost import StepCost
from bench.scenarios.serving.engines.base import Engine
from bench.scenarios.serving.load import Load
from bench.scenarios.serving.memory import Memory, PagedMemory, ReservedMemory
from bench.scenarios.serving.record import Record
from impls.policies import PagePool, Reserved

WATERMARK = 0.01
"""Fraction of the pages that the paper's system keeps free."""


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """One schedule. ``name`` begins with the system and, for Orca, how it estimates output lengths."""

    name: str
    load: Load
    first_fs: list[int]
    last_fs: list[int]
    cost: StepCost
    pool: dict[str, Any]
    counts: dict[str, int]

    @property
    def scenario(self) -> ServingScenario:
        """The limits and the kind of preemption."""
        return ServingScenario(
            num_samples=4 if "_4_samples" in self.name else 1,
            preemption="swap" if "_swap" in self.name else "auto",
            max_batch_seqs=self.pool["max_batch_seqs"],
            max_batch_tokens=self.pool["max_batch_tokens"],
        )

    def memory(self) -> Memory:
        """Return an empty pool of the system."""
        pool, (system, variant, *_) = self.pool, self.name.split("_")
        if system == "orca":
            return ReservedMemory(Reserved(pool["slots"], pool["max_seq_len"], 1, estimate=variant, arena="buddy"))
        pages = PagePool(pool["pages"], pool["page_size"], 1, watermark=WATERMARK, host_pages=pool["host_pages"])
        assert pages.kept_pages == pool["watermark_kept_pages"]
        return PagedMemory(pages, keys=lambda group: [])

    def replay(self, engine: type[Engine]) -> Record:
        """Serve the requests."""
        return engine(self.load, self.memory(), self.cost, self.scenario).run()

    def differing(self, record: Record) -> list[int]:
        """Return the requests whose first or last token comes at another time."""
        ours = zip(record.first_fs, record.last_fs, strict=True)
        theirs = zip(self.first_fs, self.last_fs, strict=True)
        return [place for place, (our, their) in enumerate(zip(ours, theirs, strict=True)) if our != their]


def read_schedule(folder: Path, name: str) -> Schedule:
    """Return one schedule of a folder."""
    settings = json.loads((folder / "settings.json").read_text())
    with gzip.open(folder / f"{name}.csv.gz", "rt") as file:
        rows = [{column: int(value) for column, value in row.items()} for row in csv.DictReader(file)]
    cost = {term: fs for term, fs in settings["cost_fs"].items() if fs or term != "seq_fs"}
    return Schedule(
        name=name,
        load=Load(
            arrivals_fs=[row["arrival_fs"] for row in rows],
            prompts=[row["prompt_len"] for row in rows],
            outputs=[row["output_len"] for row in rows],
        ),
        first_fs=[row["first_token_fs"] for row in rows],
        last_fs=[row["last_token_fs"] for row in rows],
        cost=StepCost(**cost),
        pool=settings["settings"],
        counts={count: settings["runs"][name][count] for count in ("requests", "steps", "preemptions")},
    )
