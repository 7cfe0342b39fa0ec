"""Planning: what a key holds, what is merged, what cannot run and why."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench.config import Config
from bench.plan import question
from bench.plan.points import Plan, read_jobs, read_plan
from tests.support.points import Composed, plan_of


def test_the_contiguous_cache_runs_once_in_a_page_size_sweep() -> None:
    points = [
        Composed(f"impl={impl}", page_size=size) for impl in ("contiguous", "paged_torch") for size in (4, 16, 64)
    ]
    plan = plan_of(*points)
    questions = [(point.question["impl"]["name"], point.question["page_size"]) for point in plan.points]
    assert questions == [("contiguous", None), ("paged_torch", 4), ("paged_torch", 16), ("paged_torch", 64)]
    assert plan.merged == 2


def test_the_key_depends_on_the_question_and_not_on_the_run() -> None:
    def key(*overrides: str, **changes: object) -> str:
        return plan_of(Composed(*overrides, **changes)).points[0].key

    base = key()
    assert base == key(replicates=7, run_dir="elsewhere", timeout_s=9.0)
    assert base == key(policy={"name": "paged"}), "auto is the policy that it stands for"
    assert base == key(memory_budget=str(32 * 1024 * 2 * 4096)), "auto is the size that it stands for"
    assert base == key(scenario={"aged_turnovers": 5.0}), "without effect on a shuffled layout"
    assert base != key(page_layout="aged")
    assert key(page_layout="aged") != key(page_layout="aged", scenario={"aged_turnovers": 5.0})
    assert len({base, key(seed=1), key(num_seqs=8), key(page_size=8), key("model=opt-13b")}) == 5


def test_sizes_are_hashed_as_bytes() -> None:
    keys = {plan_of(Composed(memory_budget=text)).points[0].key for text in ("64MiB", "65536KiB", str(64 * 2**20))}
    assert len(keys) == 1


def test_a_trace_is_hashed_by_its_content(tmp_path: Path) -> None:
    text = "arrival_s,prompt_len,output_len\n" + ",100,20\n" * 40
    keys = []
    for name in ("one.csv", "two.csv"):
        (tmp_path / name).write_text(text)
        keys.append(plan_of(Composed("workload=trace", workload={"path": str(tmp_path / name)})).points[0].key)
    (tmp_path / "two.csv").write_text(text + ",7,7\n")
    question._digest.cache_clear()
    keys.append(plan_of(Composed("workload=trace", workload={"path": str(tmp_path / "two.csv")})).points[0].key)
    assert keys[0] == keys[1] != keys[2]


def test_the_default_budget_admits_everything_everywhere() -> None:
    for page_size in (1, 3, 16, 1000, 1024):
        for impl in ("contiguous", "paged_torch"):
            assert plan_of(Composed(f"impl={impl}", page_size=page_size)).points[0].skip_status is None


@pytest.mark.parametrize(
    ("composed", "reason"),
    [
        (Composed("impl=paged_triton"), r"paged_triton requires device=cuda \(got cpu\)"),
        (Composed("impl=contiguous", "policy=paged"), "contiguous requires policy=reserved_max"),
        (Composed(memory_budget="256KiB"), r"memory_budget=262144 cannot hold one sequence \(NEVER\)"),
        (Composed(memory_budget="1KiB"), "memory_budget=1024 bytes must be at least 131072"),
        (
            Composed(page_layout="shared_prefix", page_size=512),
            ".*page_size=512 is longer than scenario.shared_prefix_tokens=256",
        ),
    ],
)
def test_a_point_that_cannot_run_is_unsupported_beside_others(composed: Composed, reason: str) -> None:
    plan = plan_of(Composed(), composed)
    assert plan.points[0].skip_status is None
    with pytest.raises(ValueError, match=f"no point of the plan can run: {reason}"):
        plan_of(composed)


def test_a_plan_survives_its_file() -> None:
    plan = plan_of(Composed(), Composed(page_size=4))
    assert Plan.from_json(json.loads(json.dumps(plan.to_json()))) == plan


def test_replicates_are_interleaved() -> None:
    plan = plan_of(*[Composed(page_size=size, replicates=2) for size in (4, 8)])
    assert [(point.question["page_size"], replicate) for point, replicate in plan.jobs()] == [
        (4, 0), (8, 0), (4, 1), (8, 1),
    ]  # fmt: skip


@pytest.fixture
def validated(monkeypatch: pytest.MonkeyPatch) -> list[Config]:
    """Every configuration that is built or replaced, and so validated."""
    configs: list[Config] = []
    check = Config.__post_init__

    def checked(config: Config) -> None:
        configs.append(config)
        check(config)

    monkeypatch.setattr(Config, "__post_init__", checked)
    return configs


def test_a_point_is_validated_as_composed_and_as_resolved_and_not_again(validated: list[Config]) -> None:
    plan = plan_of(*[Composed(page_size=size) for size in (4, 16, 64)])
    assert len(validated) == 2 * len(plan.points) == 6
    assert {point.config.page_size for point in plan.points for _ in range(3)} == {4, 16, 64}
    content = plan.to_json()
    assert len(validated) == 6
    assert Plan.from_json(content) == plan
    assert len(validated) == 9


def in_folder(content: dict[str, Any], folder: Path) -> Path:
    (folder / "plan.json").write_text(json.dumps(content))
    return folder


def test_jobs_are_read_without_their_configurations(validated: list[Config], tmp_path: Path) -> None:
    plan = plan_of(*[Composed(page_size=size, replicates=2) for size in (4, 16)])
    validated.clear()
    jobs = read_jobs(in_folder(plan.to_json(), tmp_path))
    assert [(job.key, job.replicate) for job in jobs] == [(point.key, number) for point, number in plan.jobs()]
    assert jobs[0].question == plan.points[0].question
    assert not validated


def test_a_plan_of_an_older_version_is_read_by_reports_alone(tmp_path: Path) -> None:
    content = json.loads(json.dumps(plan_of(Composed()).to_json()))
    del content["plan_version"], content["points"][0]["values"]
    in_folder(content, tmp_path)
    assert len(read_jobs(tmp_path)) == 1
    with pytest.raises(ValueError, match=r"is from an older version .* Start a new run"):
        read_plan(tmp_path)
