"""Options and output that all commands of a comparison share."""

from __future__ import annotations

import argparse
from pathlib import Path

from bench.compare.output.store import append_summary, write_comparison
from bench.compare.output.terminal import show
from bench.compare.verdicts.comparison import Comparison
from bench.compare.verdicts.rules import COMPARED_KINDS, Rules


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of a comparison."""
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="write every output format here")
    parser.add_argument("--all", action="store_true", help="also list what is the same")
    kinds = ", ".join(COMPARED_KINDS)
    parser.add_argument("--kind", action="append", default=[], help=f"judge only {kinds} (may be repeated)")
    parser.add_argument("--metric", action="append", default=[], help="judge only this column (may be repeated)")
    parser.add_argument("--ignore", action="append", default=[], metavar="METRIC", help="do not judge this column")
    parser.add_argument("--floor", type=float, default=0.02, help="least difference that counts (default 0.02: 2 %%)")
    parser.add_argument("--allow-mismatch", default="", metavar="FACT,…", help="blocking facts that may differ")
    parser.add_argument("--allow-new", action="store_true", help="accept points that the base never planned")
    parser.add_argument("--fail-on-inconclusive", action="store_true", help="exit 6 if a verdict is inconclusive")


def rules_of(arguments: argparse.Namespace) -> Rules:
    """Return the rules of these options.

    Raises:
        ValueError: an option has a wrong value.
    """
    return Rules(
        least_floor=arguments.floor,
        allow_mismatch=tuple(name for name in arguments.allow_mismatch.split(",") if name),
        allow_new=arguments.allow_new,
        fail_on_inconclusive=arguments.fail_on_inconclusive,
        kinds=tuple(arguments.kind) or COMPARED_KINDS,
        metrics=tuple(arguments.metric),
        ignore=tuple(arguments.ignore),
    )


def check_out(out: Path | None) -> None:
    """Create the folder of ``--out`` before anything runs.

    Raises:
        ValueError: the folder cannot be created.
    """
    try:
        if out is not None:
            out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"--out {out} cannot be written: {error.strerror}") from error


def present(comparison: Comparison, out: Path | None, *, everything: bool) -> int:
    """Print the comparison, write it to ``out`` if given, and return the exit code."""
    show(comparison, everything=everything)
    append_summary(comparison)
    if out is not None:
        write_comparison(comparison, out)
        print(f"written  {out}")
    return comparison.exit_code


def check_rounds(name: str, rounds: int, rules: Rules) -> None:
    """Refuse too few pairs for a verdict. One pair is enough for counters.

    Raises:
        ValueError: there are fewer than ``rules.min_pairs``.
    """
    least = rules.min_pairs if rules.needs_like_machines else 1
    if rounds < least:
        raise ValueError(f"{name} {rounds} must be at least {least}: fewer pairs decide nothing")
