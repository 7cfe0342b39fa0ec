"""Runs that belong together: the experiments of ``make paper`` in one folder, read as one table."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pandas as pd

from bench.rows.run_folder import RUNS
from bench.rows.table import load_rows

RUN_PREFIX = "paper-"
"""A folder ``results/runs/paper-<time>`` holds a run folder per experiment."""


def newest_paper() -> Path:
    """The folder of the newest ``make paper``.

    Raises:
        ValueError: there is none.
    """
    folders = sorted(RUNS.glob(f"{RUN_PREFIX}[0-9]*/"))
    if not folders:
        raise ValueError(f"no {RUN_PREFIX}* folder in {RUNS}. Run make paper, or name a run folder")
    return folders[-1]


def run_folders(folder: Path) -> list[Path]:
    """The folder itself if it holds a run, else the run folders in it, in the order in which they were planned.

    Raises:
        ValueError: neither.
    """
    if (folder / "plan.json").is_file():
        return [folder]
    plans = sorted(folder.glob("*/plan.json"), key=lambda plan: (plan.stat().st_mtime, plan))
    inside = [plan.parent for plan in plans]
    if not inside:
        raise ValueError(f"{folder} is no run folder and holds none: there is no plan.json")
    return inside


def load_tables(folder: Path) -> pd.DataFrame:
    """The rows of a run folder, or of all run folders in a folder.

    Raises:
        ValueError: no run folder, or a row that is not whole or is newer than this version.
    """
    return pd.concat([load_rows(run) for run in run_folders(folder)], ignore_index=True)


@dataclass(frozen=True, kw_only=True)
class PaperSweep:
    """One sweep of ``make paper``.

    Attributes:
        name: of its run folder.
        overrides: what follows ``python bench/run.py -m``.
    """

    name: str
    overrides: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class PaperExperiment:
    """One experiment of ``make paper``, and what lengths it is made with.

    Attributes:
        experiment: its file in ``conf/experiment/``.
        trace: the published file that it requires, or ``None``.
        sharegpt: it draws ShareGPT's lengths, which a file replaces where there is one.
        stand_in_too: if so, it is made with the built-in stand-in all the same.
        label: distinguishes two runs of one experiment.
    """

    experiment: str
    trace: str | None = None
    sharegpt: bool = False
    stand_in_too: bool = False
    label: str = ""


SHAREGPT_LENGTHS: Final = ("derived_sharegpt_papermatched5000.csv", "sharegpt_papermatched.csv")
"""Single requests with the paper's means. The first file that exists is used."""
SHAREGPT_TURNS: Final = "sharegpt_8k_filtered_stats_llama2_tokenizer.csv"

EXPERIMENTS: Final = (
    PaperExperiment(experiment="paper_table1"),
    PaperExperiment(experiment="paper_fig02", sharegpt=True, stand_in_too=True),
    PaperExperiment(experiment="paper_fig03"),
    PaperExperiment(experiment="paper_fig11"),
    PaperExperiment(experiment="paper_fig11_sharegpt", sharegpt=True),
    PaperExperiment(experiment="paper_fig12_13b", sharegpt=True),
    PaperExperiment(experiment="paper_fig12_66b", sharegpt=True),
    PaperExperiment(experiment="paper_fig12_175b", sharegpt=True),
    PaperExperiment(experiment="paper_fig12_13b_alpaca"),
    PaperExperiment(experiment="paper_fig12_66b_alpaca"),
    PaperExperiment(experiment="paper_fig12_175b_alpaca"),
    PaperExperiment(experiment="paper_fig13", sharegpt=True),
    PaperExperiment(experiment="paper_fig13_alpaca"),
    PaperExperiment(experiment="paper_fig13_queue"),
    PaperExperiment(experiment="paper_fig13_steps", sharegpt=True),
    PaperExperiment(experiment="paper_fig13_steps_alpaca"),
    PaperExperiment(experiment="paper_fig14"),
    PaperExperiment(experiment="paper_fig14_beam"),
    PaperExperiment(experiment="paper_fig15"),
    PaperExperiment(experiment="paper_fig15_beam"),
    PaperExperiment(experiment="paper_fig15_turnover"),
    PaperExperiment(experiment="paper_fig16"),
    PaperExperiment(experiment="paper_fig17", trace=SHAREGPT_TURNS),
    PaperExperiment(experiment="paper_fig18b", sharegpt=True),
    PaperExperiment(experiment="paper_fig18b_alpaca"),
    PaperExperiment(experiment="paper_fig18b_pages"),
    PaperExperiment(experiment="paper_fig19b", sharegpt=True),
    PaperExperiment(experiment="modern_llama3_8b", sharegpt=True),
    PaperExperiment(experiment="modern_llama3_70b", sharegpt=True),
    PaperExperiment(experiment="azure_conv", trace="AzureLLMInferenceTrace_conv.csv"),
    PaperExperiment(experiment="mooncake_serving", trace="conversation_trace.jsonl"),
    PaperExperiment(experiment="mooncake_hits", trace="conversation_trace.jsonl", label="conversation"),
    PaperExperiment(experiment="mooncake_hits", trace="synthetic_trace.jsonl", label="synthetic"),
)
"""All that needs no GPU, in the order in which it is run."""


def find_trace(folder: Path | None, name: str) -> Path | None:
    """A trace in a folder, plain or packed."""
    candidates = [] if folder is None else [folder / name, folder / f"{name}.gz"]
    return next((path.absolute() for path in candidates if path.is_file()), None)


def steps(traces: Path | None) -> tuple[list[PaperSweep], list[str]]:
    """Return the sweeps to run, and a sentence for each sweep that is left out or uses a stand-in.

    Args:
        traces: folder of published traces, or ``None``.
    """
    lengths = next((path for name in SHAREGPT_LENGTHS if (path := find_trace(traces, name))), None)
    fetch = "run python scripts/fetch_traces.py"
    found: list[PaperSweep] = []
    notes = [] if lengths else [f"ShareGPT's lengths are the built-in stand-in. For the published ones, {fetch}"]
    for part in EXPERIMENTS:
        trace = find_trace(traces, part.trace) if part.trace else None
        if part.trace and trace is None:
            notes.append(f"{part.experiment} is left out, because it requires {part.trace}: {fetch}")
            continue
        name = "_".join(filter(None, (part.experiment, part.label)))
        asked = (f"experiment={part.experiment}",)
        if trace:
            found.append(PaperSweep(name=name, overrides=(*asked, f"workload.path={trace}")))
        elif not part.sharegpt or lengths is None:
            found.append(PaperSweep(name=name, overrides=asked))
        else:
            found.append(PaperSweep(name=name, overrides=(*asked, "workload=trace", f"workload.path={lengths}")))
            if part.stand_in_too:
                found.append(PaperSweep(name=f"{name}_stand_in", overrides=asked))
    return found, notes
