"""The committed reference: this checkout still counts what it counted, and a defect in a policy is seen."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import pytest

from bench.ab.reference import BOOKKEEPING, SMALL_DECODE, SWEEPS, make_reference
from bench.compare import Comparison, Rules, Side, compare
from bench.compare.load import load_side
from bench.rows.table import typed
from impls.policies import PagePool
from tests.conftest import ROOT
from tests.support.points import planned, row_of

REFERENCES = sorted(path.parent for path in (ROOT / "results" / "reference").glob("*/plan.json"))
RENEW = "did this change on purpose? then: python scripts/reference.py FOLDER --renew, and commit it"


def against(reference: Path, sweeps: Sequence[tuple[str, ...]]) -> Comparison:
    """The reference's rows of these sweeps against what this checkout answers in this process."""
    rows = [row_of(point) for overrides in sweeps for point in planned(*overrides).points]
    whole, keys = load_side(reference), [row["key"] for row in rows]
    kept = dataclasses.replace(whole, table=whole.table[whole.table["key"].isin(keys)], planned=dict.fromkeys(keys, 1))
    candidate = Side(name="this checkout", table=typed(rows, Path("this checkout")), planned=dict.fromkeys(keys, 1))
    return compare(kept, candidate, Rules(kinds=("exact",)))


def test_every_reference_has_the_keys_of_its_sweeps() -> None:
    keys = {point.key for overrides in SWEEPS for point in planned(*overrides).points}
    assert REFERENCES
    for reference in REFERENCES:
        assert set(load_side(reference).planned) == keys, RENEW
        assert {path.name for path in reference.iterdir()} == {"plan.json", "environment.json", "points"}


@pytest.mark.parametrize("reference", REFERENCES, ids=lambda path: path.name)
def test_the_counters_equal_those_of_the_reference(reference: Path) -> None:
    comparison = against(reference, (*BOOKKEEPING, SMALL_DECODE))
    moved = comparison.verdicts[comparison.verdicts["verdict"].ne("same")]
    assert comparison.exit_code == 0, f"{moved[['point', 'metric', 'base', 'candidate']]}\n{RENEW}"
    assert moved.empty
    assert comparison.counts["same"] > 300


def test_one_page_too_many_is_a_regression(monkeypatch: pytest.MonkeyPatch) -> None:
    admit = PagePool.admit

    def wasteful(self: PagePool, seq_id: int, num_tokens: int, final_len: int | None = None) -> None:
        admit(self, seq_id, num_tokens + (self.page_size if seq_id == 1 else 0), final_len)

    monkeypatch.setattr(PagePool, "admit", wasteful)
    comparison = against(REFERENCES[0], BOOKKEEPING[:1])
    assert comparison.exit_code == 3
    regressed = comparison.verdicts[comparison.verdicts["verdict"].eq("regressed")]
    assert set(regressed["key"]) < set(comparison.points.index), "the reservations have no pages"


def test_a_reference_in_use_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text("{}")
    with pytest.raises(ValueError, match="--renew replaces it"):
        make_reference(tmp_path)
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(ValueError, match="has files of another kind"):
        make_reference(tmp_path, renew=True)
