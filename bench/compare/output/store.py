"""A comparison as files."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from bench.compare.output.forms import action_benchmark, bencher, dumped, junit, to_json
from bench.compare.output.markdown import COMMENT_BYTES, SUMMARY_BYTES, markdown
from bench.compare.verdicts.comparison import Comparison
from bench.rows.neutral import for_spreadsheet


def write_comparison(comparison: Comparison, folder: Path) -> list[Path]:
    """Write every format into a folder, which is created if absent. Return the files.

    Raises:
        ValueError: the folder cannot be written.
    """
    texts = {
        "comparison.json": dumped(to_json(comparison)),
        "comparison.md": markdown(comparison, limit_bytes=SUMMARY_BYTES),
        "comment.md": markdown(comparison, limit_bytes=COMMENT_BYTES),
        "junit.xml": junit(comparison),
        "smaller_is_better.json": dumped(action_benchmark(comparison, "lower")),
        "bigger_is_better.json": dumped(action_benchmark(comparison, "higher")),
        "bencher.json": dumped(bencher(comparison)),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            (folder / name).write_text(text, encoding="utf-8")
        for_spreadsheet(comparison.verdicts).to_csv(folder / "comparison.csv", index=False)
        texted = comparison.verdicts.astype(
            {"base": "string", "candidate": "string"}
        )  # a column can contain counters and texts
        texted.to_parquet(folder / "comparison.parquet", index=False)
        drawn = _draw(comparison, folder)
    except OSError as error:
        raise ValueError(f"--out {folder} cannot be written: {error.strerror}") from error
    return [folder / name for name in (*texts, "comparison.csv", "comparison.parquet")] + drawn


def _draw(comparison: Comparison, folder: Path) -> list[Path]:
    """Draw the forest plot if there is an interval."""
    from bench.compare.output.forest import FOREST  # takes seconds to import
    from bench.reports.figures.style import save

    selection = FOREST.select(comparison.verdicts)
    return [] if selection.empty else [save(FOREST, selection, folder)]


def append_summary(comparison: Comparison, environ: Mapping[str, str] = os.environ) -> None:
    """Append the comparison to ``$GITHUB_STEP_SUMMARY``, if it is set, within the rest of its size limit."""
    path = environ.get("GITHUB_STEP_SUMMARY")
    if path:
        summary = Path(path)
        taken = summary.stat().st_size if summary.exists() else 0
        with summary.open("a", encoding="utf-8") as file:
            file.write(markdown(comparison, limit_bytes=max(SUMMARY_BYTES - taken, 0)))
