"""Short forms of the proofs that ``scripts/prove_gate.py`` prints: false alarms, coverage, defects, rounds."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from bench.ab.rounds import merge, requests_of
from bench.compare import Rules, Side, compare
from bench.compare.verdicts.confirm import confirmed, flagged
from bench.compare.verdicts.noise import measured_floor
from bench.rows.json_file import write_json
from impls.policies import PagePool
from tests.proofs.pool import comparisons, flagged_ratio, rates
from tests.proofs.synthetic import NOISES, interleaved, made_side, promises
from tests.support.folders import times
from tests.support.points import Composed, plan_of
from tests.support.sides import row, side_of


@pytest.mark.parametrize("name", NOISES)
def test_few_false_discoveries_and_honest_intervals(name: str) -> None:
    kept = promises(NOISES[name], pairs=8, points=60, comparisons=5)
    assert kept.false_discovery_ratio <= 0.05
    # 300 intervals: a true coverage of 95 % is seen below 91 % less than once in 800 times.
    assert kept.coverage >= 0.91


def test_ten_percent_is_found_at_ten_pairs() -> None:
    kept = promises(NOISES["normal"], pairs=10, points=20, comparisons=3)
    assert kept.found >= 0.9
    assert kept.false_alarms <= 0.05


def test_interleaving_is_a_b_b_a() -> None:
    assert interleaved(np.arange(8.0)).tolist() == [[0, 3, 4, 7], [1, 2, 5, 6]]


def test_a_pool_is_cut_into_disjoint_comparisons() -> None:
    rng = np.random.default_rng(0)
    base, candidate = (made_side(100 * np.exp(rng.normal(0, 0.002, (4, 20)))).table for _ in range(2))
    made = list(comparisons(base, candidate, 10, Rules()))
    assert [set(comparison.verdicts["pairs"]) for comparison in made] == [{10}, {10}]
    shares = rates(made, ["decode_us"])
    assert shares.loc["decode_us", "verdicts"] == 8
    assert flagged_ratio(shares) == 0
    assert shares.loc["decode_us", "spread"] == pytest.approx(0.002, rel=0.5)
    assert 0 < measured_floor(made)["decode_us"] < 0.01


def counters(pool: PagePool, refused: int, copies: int) -> Side:
    used = pool.counters
    values = {"peak_pages": used["peak_pages"], "pages_taken_admit": used["pages_taken_admit"], "refused_seqs": refused}
    values["copied_pages"] = used["pages_copied"] + copies
    return side_of([row("churn", **values)])


class OnePageTooMany(PagePool):
    """A defect: an admission counts one page that it did not need."""

    def admit(self, seq_id: int, num_tokens: int, *arguments: int) -> None:
        super().admit(seq_id, num_tokens + (self.page_size if seq_id == 3 else 0), *arguments)


def filled(kind: type[PagePool]) -> PagePool:
    pool = kind(64, 16, 1)
    for seq_id in range(6):
        pool.admit(seq_id, 20)
    return pool


@pytest.mark.parametrize("defect", ["none", "page", "refusal", "copy"])
def test_planted_defects_are_caught_by_one_run_of_counters(defect: str) -> None:
    candidate = filled(OnePageTooMany if defect == "page" else PagePool)
    comparison = compare(
        counters(filled(PagePool), 0, 0),
        counters(candidate, int(defect == "refusal"), int(defect == "copy")),
        Rules(),
    )
    regressed = comparison.verdicts.loc[comparison.verdicts["verdict"].eq("regressed"), "metric"].tolist()
    expected = {
        "none": [],
        "page": ["pages_taken_admit", "peak_pages"],
        "refusal": ["refused_seqs"],
        "copy": ["copied_pages"],
    }
    assert sorted(regressed) == expected[defect]
    assert comparison.exit_code == (0 if defect == "none" else 3)


def test_rounds_become_one_run_folder(tmp_path: Path) -> None:
    folders = [[times(tmp_path / "rounds" / str(number), replicates=1)] for number in range(3)]
    merge(folders, tmp_path / "base", {"pairs": "x"})
    rows = [json.loads(path.read_text()) for path in sorted((tmp_path / "base" / "points").iterdir())]
    assert [(row["key"], row["replicate"]) for row in rows] == [(key, r) for key in "ab" for r in range(3)]
    assert len({row["server_id"] for row in rows}) == 6
    assert json.loads((tmp_path / "base" / "plan.json").read_text())["replicates"] == 3
    other = [[times(tmp_path / "rounds" / "odd", replicates=1)]]
    (tmp_path / "rounds" / "odd" / "plan.json").write_text('{"points": [{"key": "z"}], "replicates": 1}')
    with pytest.raises(ValueError, match="its rounds have different points"):
        merge([*folders, *other], tmp_path / "again", {"pairs": "x"})


def test_only_a_flagged_point_is_confirmed(tmp_path: Path) -> None:
    plan = plan_of(Composed("impl=contiguous"), Composed("impl=paged_torch", "page_size=4", "replicates=3"))
    write_json(tmp_path / "plan.json", {**plan.to_json(), "config_dirs": ["/elsewhere"]})
    asked = requests_of(tmp_path, [plan.points[1].key])
    assert asked == [["--config-dir=/elsewhere", "impl=paged_torch", "page_size=4", "device=cpu"]]


def made_of(values: dict[str, list[float]]) -> Side:
    made = made_side(np.array(list(values.values())))
    made.table["key"] = np.repeat(list(values), 10)
    return Side(name="made", table=made.table, planned=dict.fromkeys(values, 10), interleaved="made")


def test_the_confirmation_decides_flagged_points() -> None:
    def side(**scales: float) -> Side:
        return made_of({key: [scale * (100 + run % 2) for run in range(10)] for key, scale in scales.items()})

    first = compare(side(a=1, b=1, c=1), side(a=1.2, b=1.2, c=1), Rules())
    assert sorted(flagged(first)) == ["a", "b", "c"], "the geometric mean over them is flagged, too"
    second = compare(side(a=1, b=1, c=1), side(a=1.2, b=1.0, c=1.2), Rules())
    last = confirmed(first, second)
    assert last.verdicts.set_index("key")["verdict"].to_dict() == {"a": "regressed", "b": "same", "c": "same"}
    assert len(last.points) == 3
    assert any("run again" in note for note in last.notes)


def test_a_geometric_mean_is_confirmed_by_all_its_points() -> None:
    def side(scale: float) -> Side:
        """Two points whose noise cancels in the mean: neither is flagged, the mean is."""
        noise = [0.8 + 0.2 * (run % 3) for run in range(10)] if scale > 1 else [1.0] * 10
        return made_of({"a": [100 * scale * n for n in noise], "b": [100 * scale / n for n in noise]})

    first = compare(side(1), side(1.1), Rules())
    assert first.means["verdict"].tolist() == ["regressed"]
    assert "regressed" not in set(first.verdicts["verdict"])
    assert sorted(flagged(first)) == ["a", "b"]
    assert confirmed(first, compare(side(1), side(1.1), Rules())).exit_code == 3
    cleared = confirmed(first, compare(side(1), side(1), Rules()))
    assert cleared.means["verdict"].tolist() == ["same"]
    assert cleared.exit_code == 0
