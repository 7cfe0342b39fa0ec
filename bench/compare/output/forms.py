"""A comparison as our JSON and in formats of other tools: JUnit XML, github-action-benchmark, Bencher."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pandas as pd

from bench.compare.output.words import change, headline, interval, records
from bench.compare.verdicts.comparison import Comparison
from bench.compare.verdicts.join import FAILED, MISSING
from bench.compare.verdicts.rules import INCONCLUSIVE, INSUFFICIENT, REGRESSED
from bench.rows.neutral import for_terminal

COMPARISON_SCHEMA = 1
"""Version of the format of ``to_json``. It rises when a field changes its meaning or disappears."""

SCHEMA_FILE = Path(__file__).with_name("comparison.schema.json")


def to_json(comparison: Comparison) -> dict[str, Any]:
    """Return the whole comparison, as ``comparison.schema.json`` describes it."""
    rules = comparison.rules
    return {
        "schema_version": COMPARISON_SCHEMA,
        "exit_code": comparison.exit_code,
        "headline": headline(comparison),
        **comparison.sides,
        "paired": comparison.paired,
        "rules": {
            "confidence": rules.confidence,
            "least_floor": rules.least_floor,
            "min_pairs": rules.min_pairs,
            "bootstrap_from": rules.bootstrap_from,
            "false_discovery_rate": rules.false_discovery_rate,
        },
        "machines": {"allowed": list(comparison.machines.allowed), "refused": list(comparison.machines.refused)},
        "notes": list(comparison.notes),
        "counts": comparison.counts,
        "points": records(comparison.points.rename_axis("key").reset_index()),
        "verdicts": records(comparison.verdicts),
        "means": records(comparison.means),
    }


def junit(comparison: Comparison) -> str:
    """Return one test case per verdict and per point without one. Regressed fails, inconclusive is skipped."""
    verdicts, points = comparison.verdicts, comparison.points
    troubled = points[points["outcome"].isin([MISSING, FAILED])]
    suite = ET.Element("testsuite", name="compare_runs")
    for row in records(verdicts):
        case = ET.SubElement(suite, "testcase", classname=row["point"], name=row["metric"])
        text = f"{row['metric']} {change(row['ratio'])}: {row['reason']}"
        if row["verdict"] == REGRESSED:
            ET.SubElement(case, "failure", message=text)
        elif row["lost"]:
            ET.SubElement(case, "error", message=text)
        elif row["verdict"] in (INCONCLUSIVE, INSUFFICIENT):
            ET.SubElement(case, "skipped").text = f"{row['verdict']}: {text}"  # no attribute in Jenkins's schema
    for row in records(troubled):
        case = ET.SubElement(suite, "testcase", classname=row["point"], name=row["outcome"])
        ET.SubElement(case, "error", message=f"{row['outcome']}: {row['why']}")
    if comparison.machines.refused or not len(suite):
        case = ET.SubElement(suite, "testcase", classname="comparison", name="comparable")
        ET.SubElement(case, "error", message=headline(comparison))
    counts = {"failures": "failure", "errors": "error", "skipped": "skipped"}
    suite.set("tests", str(len(suite)))
    for attribute, tag in counts.items():
        suite.set(attribute, str(sum(case.find(tag) is not None for case in suite)))
    for element in suite.iter():  # XML allows no control characters
        element.attrib = {name: for_terminal(value) for name, value in element.attrib.items()}
        element.text = for_terminal(element.text) if element.text else element.text
    ET.indent(suite)
    return ET.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


def action_benchmark(comparison: Comparison, better: str) -> list[dict[str, Any]]:
    """Return the input of github-action-benchmark for ``customSmallerIsBetter`` or ``customBiggerIsBetter``.

    Args:
        comparison: the comparison, whose candidate is written.
        better: ``lower`` or ``higher``. A file has metrics of one direction.
    """
    rows = _numbers(comparison)
    return [
        {
            "name": f"{row['point']} {row['metric']}",
            "unit": row["unit"] or "count",
            "value": float(row["candidate"]),
            "range": interval(row),
            "extra": f"{row['verdict']}: {row['reason']}",
        }
        for row in records(rows[rows["better"].eq(better)])
    ]


def bencher(comparison: Comparison) -> dict[str, dict[str, dict[str, float]]]:
    """Return Bencher's metric format: values of the candidate, and for times base × the interval of the ratio."""
    out: dict[str, dict[str, dict[str, float]]] = {}
    for row in records(_numbers(comparison)):
        measure = {"value": float(row["candidate"])}
        if row["ratio_low"] is not None:
            measure |= {
                "lower_value": float(row["candidate"] * row["ratio_low"] / row["ratio"]),
                "upper_value": float(row["candidate"] * row["ratio_high"] / row["ratio"]),
            }
        out.setdefault(row["point"], {})[row["metric"]] = measure
    return out


def _numbers(comparison: Comparison) -> pd.DataFrame:
    """Return verdicts on numbers of the candidate that have a better direction."""
    verdicts = comparison.verdicts
    numeric = pd.to_numeric(verdicts["candidate"], errors="coerce").notna()
    return verdicts[numeric & verdicts["better"].notna()]


def dumped(content: Any) -> str:
    """Return JSON text. A NaN is an internal error."""
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
