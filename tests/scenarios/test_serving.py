"""Scenario ``serving``: invariants on every step, closed forms, and the columns of a row."""

from __future__ import annotations

import json
import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from bench.config import build
from bench.config.serving import ServingScenario
from bench.rows.record import complete
from bench.rows.result import Answer
from bench.runner.row import make_row
from bench.scenarios.bookkeeping import PARTS
from bench.scenarios.exact_statistics import weighted_percentile
from bench.scenarios.serving.cost import StepWork, roofline
from bench.scenarios.serving.engines.steps import PlainReplay
from bench.scenarios.serving.metrics import gap_columns, gap_lengths, latencies, latency_samples
from bench.scenarios.serving.record import Gaps, Record
from bench.scenarios.serving.scenario import run_serving
from impls.interface import Unsupported
from impls.policies import POLICIES
from tests.support.points import Composed, plan_of
from tests.support.serving_cases import COST, Case, cases, crowded_case

FACTS = ("server_id", "code_hash", "fingerprint", "log", "repro_command", "harness_s", "measured_s", "mixed")
TINY: dict[str, Any] = {"num_seqs": 60, "workload": {"low": 2, "high": 200}, "memory_budget": "4MiB", "page_size": 8,
                        "model": {"max_seq_len": 256}}  # fmt: skip


class Watched(PlainReplay):
    """The oracle, looked at in every step."""

    def _note(self, step_fs: int, was_loaded: bool) -> None:
        super()._note(step_fs, was_loaded)
        policy = self.memory.policy
        assert sum(policy.split()) == policy.pool_bytes, "a token has one byte here"
        self._no_request_is_lost()
        self._first_come_first_served()
        self._work_is_conserved()
        assert 0 < self._num_seqs() <= self.scenario.max_batch_seqs

    def _no_request_is_lost(self) -> None:
        places = [self.coming, self.waiting, self.running, self.swapped]
        there = [group.index for place in places for group in place]
        gone = [index for index, finished in enumerate(self.record.finished) if finished]
        assert sorted([*there, *gone, *self.record.refused]) == list(range(len(self.load)))

    def _first_come_first_served(self) -> None:
        admitted = [index for index, fs in enumerate(self.record.admitted_fs) if fs >= 0]
        behind = [index for index in range(len(self.load)) if index not in {*admitted, *self.record.refused}]
        assert not admitted or not behind or max(admitted) < min(behind)
        if not self.record.count["preemptions"]:
            assert self.record.admitted_fs[: len(admitted)] == sorted(self.record.admitted_fs[: len(admitted)]) or (
                self.record.refused
            )

    def _work_is_conserved(self) -> None:
        """No request waits that memory and limits admit, unless one was just preempted or is swapped out."""
        if not self.waiting or self.preempted or self.swapped or self.scenario.prefill == "first":
            return
        head = self.waiting[0]
        if self._num_seqs() + len(head.seq_ids) > self.scenario.max_batch_seqs or self.scenario.max_batch_tokens < 1000:
            return
        entered = self.memory.try_enter(head)
        if entered:
            self.memory.free(head)
        assert not entered


def check_end(case: Case, engine: PlainReplay, record: Record) -> None:
    """What holds once all is served: tokens are conserved, memory is given back, and Little's law for the batch."""
    count, policy = engine.scenario.num_samples, engine.memory.policy
    assert record.count["output_tokens"] >= count * sum(record.generated)
    pairs = count * sum(generated - 1 for generated in record.generated if generated)
    if case.end_fs is None:
        assert all(finished or index in record.refused for index, finished in enumerate(record.finished))
        assert [record.generated[i] for i, finished in enumerate(record.finished) if finished] == [
            output for (_, output), finished in zip(case.lengths, record.finished, strict=True) if finished
        ]
        assert record.count["output_tokens"] == count * sum(record.generated)
        assert sum(gap.steps * gap.seqs for gap in record.gaps) == pairs
        assert policy.num_seqs == (1 if engine.scenario.shared_prefix_tokens and case.policy == "paged" else 0)
        if not record.count["preemptions"]:
            served = [i for i, finished in enumerate(record.finished) if finished]
            assert record.running_fs == sum(record.last_fs[i] - record.admitted_fs[i] for i in served)
    assert record.busy_fs <= record.end_fs - min(case.arrivals_fs)


@settings(max_examples=150, deadline=None)
@given(cases())
def test_invariants_hold_on_every_step(case: Case) -> None:
    engine = case.engine(Watched)
    check_end(case, engine, engine.run())


def test_invariants_hold_where_requests_are_preempted() -> None:
    rng = random.Random(1)
    for _ in range(80):
        case = crowded_case(rng)
        engine = case.engine(Watched)
        check_end(case, engine, engine.run())


@pytest.mark.parametrize("policy", ["paged", "reserved-max-buddy"])
def test_one_request_alone_is_the_sum_of_its_steps(policy: str) -> None:
    prompt, output = 13, 9
    record = Case(policy=policy, lengths=[(prompt, output)], arrivals_fs=[500]).run()
    first = COST.overhead_fs + max(COST.weights_fs, 90 * prompt) + 3 * prompt + 2 * prompt * (prompt + 1) // 2
    each = COST.overhead_fs + COST.weights_fs + 3
    assert record.first_fs == [500 + first]
    assert record.last_fs == [500 + first + sum(each + 7 * (prompt + token) for token in range(1, output))]
    assert record.count["steps"] == output


def test_waiting_with_one_slot_is_that_of_an_m_d_1_queue() -> None:
    """Mean wait = ρ S / 2 (1 − ρ) with constant service S (Pollaczek and Khinchine), within 4 standard errors."""
    service_fs = COST.step_fs(StepWork(tokens=4, context=0, pairs=10))
    load, requests, batches = 0.6, 40_000, 40
    gaps = np.random.default_rng(5).exponential(service_fs / load, size=requests)
    arrivals = np.cumsum(gaps).astype(np.int64).tolist()
    case = Case(policy="paged", lengths=[(4, 1)] * requests, arrivals_fs=arrivals, scenario={"max_batch_seqs": 1})
    record = case.run()
    waits = (np.array(record.admitted_fs) - np.array(arrivals)) / service_fs
    means = waits.reshape(batches, -1).mean(axis=1)
    standard_error = means.std(ddof=1) / np.sqrt(batches)
    assert abs(waits.mean() - load / (2 * (1 - load))) < 4 * standard_error
    assert standard_error < 0.05


def test_littles_law_within_sampling_error() -> None:
    """Requests seen in the system at random times are, on average, the rate times the mean stay."""
    row = run("scenario=serving", **{**TINY, "num_seqs": 3000}, scenario={"rate": 40.0, "keep_latencies": True})
    stays, arrivals = np.array(row.samples["e2e_ms"]) / 1000, np.array(row.samples["arrival_s"])
    times = np.random.default_rng(0).uniform(arrivals[0], arrivals[0] + row.values["simulated_s"], size=4000)
    seen = [int(np.count_nonzero((arrivals <= time) & (time < arrivals + stays))) for time in times]
    by_law = len(stays) / row.values["simulated_s"] * stays.mean()
    assert np.mean(seen) == pytest.approx(by_law, abs=4 * np.std(seen) / np.sqrt(len(times)))
    assert row.values["in_system_requests_mean"] == pytest.approx(by_law, rel=1e-9)
    running = row.values["in_system_requests_mean"] - row.values["waiting_requests_mean"]
    assert 0 < running <= row.values["most_running_seqs"]


def resolved(*overrides: str, **changes: Any) -> dict[str, Any]:
    return plan_of(Composed("scenario=serving", *overrides, **changes)).points[0].config.to_json()


def run(*overrides: str, **changes: Any) -> Answer:
    return run_serving({"config": resolved(*overrides, **changes)})


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("samples", [1, 3])
def test_both_engines_give_the_same_complete_row(policy: str, samples: int) -> None:
    changes = {**TINY, "memory_budget": "8MiB", "policy": {"name": policy, "watermark": 0.01}}
    rows = []
    for engine in ("events", "steps"):
        scenario = {"engine": engine, "rate": 100.0, "num_samples": samples}
        plan = plan_of(Composed("scenario=serving", scenario=scenario, **changes))
        config = plan.points[0].config
        answer = run_serving({"config": config.to_json()})
        rows.append(complete(make_row(plan.points[0], 0, answer, dict.fromkeys(FACTS, "")) | {
            "rounds_interleaved": True}))  # fmt: skip
    by_events, by_steps = rows
    assert sum(by_events[f"{part}_bytes"] for part in PARTS) == by_events["pool_bytes"]
    assert by_events["finished_requests"] + by_events["refused_seqs"] == 60
    for name in by_events.keys() - {"key", "replay_s", "curves"}:
        assert by_events[name] == by_steps[name], name


def test_equal_work_is_equal_arrivals_and_lengths() -> None:
    def work(policy: str, **scenario: Any) -> Any:
        return run(f"policy={policy}", **TINY, scenario=scenario).values["batch_digest"]

    assert work("paged") == work("reserved_oracle") == work("paged", max_batch_seqs=3)
    assert len({work("paged"), work("paged", rate=3.0), work("paged", num_samples=2)}) == 3


def test_pages_reduce_latency() -> None:
    changes = {**TINY, "num_seqs": 400, "memory_budget": "8MiB", "scenario": {"rate": 60.0}}
    latency = {policy: run(f"policy={policy}", **changes).values["normalized_latency_ms_per_token"]
               for policy in ("reserved_max", "reserved_pow2", "reserved_oracle", "paged")}  # fmt: skip
    assert latency["paged"] < latency["reserved_oracle"] < latency["reserved_pow2"] < latency["reserved_max"]


def test_unfinished_requests_count_unless_excluded() -> None:
    late = {"rate": 300.0, "stop_at": "trace_end", "duration_s": 1.0}
    rows = {only: run("policy=reserved_max", **TINY, scenario={**late, "record_finished_only": only}).values
            for only in (False, True)}  # fmt: skip
    assert rows[True]["unfinished_requests"] == rows[False]["unfinished_requests"] > 0
    assert rows[True]["ttft_ms_mean"] < rows[False]["ttft_ms_mean"]


def test_latencies_of_an_unfinished_request_are_lower_bounds() -> None:
    record = Record.of(2)
    record.first_fs, record.last_fs, record.end_fs = [3 * 10**12, -1], [9 * 10**12, -1], 10 * 10**12
    record.generated, record.finished = [4, 0], [True, False]
    load = Case(policy="paged", lengths=[(1, 4), (1, 5)], arrivals_fs=[10**12, 2 * 10**12]).load
    times = latencies(load, record, finished_only=False)
    assert latency_samples(load, record, times, finished_only=False) == {
        "ttft_ms": [2.0, 8.0],
        "tpot_ms": [2.0],
        "e2e_ms": [8.0, 8.0],
        "normalized_latency_ms_per_token": [2.0, 1.6],
        "arrival_s": [0.001, 0.002],
        "finished": [1.0, 0.0],
    }


def test_gaps_are_weighed_by_their_sequences() -> None:
    lengths, counts = gap_lengths([Gaps(2 * 10**12, 10**12, 3, 5), Gaps(10**12, 0, 1, 2)])
    assert lengths.tolist() == [10**12, 2 * 10**12, 3 * 10**12, 4 * 10**12]
    assert counts.tolist() == [2, 5, 5, 5]
    assert weighted_percentile(lengths, counts, 50) == 3 * 10**12


def test_gaps_of_hours_do_not_overflow() -> None:
    hours = [Gaps(4 * 3600 * 10**15, 10**12, 3, 5), Gaps(10**12, 0, 1, 2)]
    assert gap_lengths(hours)[0].tolist() == [10**12, *(4 * 3600 * 10**15 + step * 10**12 for step in range(3))]
    assert gap_columns(hours)["itl_ms_p99"] == 14_400_002.0
    assert gap_columns(hours)["itl_ms_mean"] == (5 * (3 * 14_400_000 + 3) + 2) / 17


def test_a_roofline_by_hand() -> None:
    """OPT-13B on one A100: 819,200 bytes per token, 25.7 GB of weights, over 1,555 GB/s of which 93 % are reached."""
    config = build(resolved("model=opt-13b", memory_budget="12GiB", workload={"high": 2000}))
    cost = roofline(config.cost, config.model, 16)
    read = 1555e9 * 0.93
    assert cost.context_fs == round(819_200 / read * 1e15)
    assert cost.weights_fs == round(2 * 12_853_473_280 / read * 1e15)
    assert cost.link_fs == 0
    assert cost.swap_page_fs == round(16 * 819_200 / 31.5e9 * 1e15) + 80 * 6 * 10**9
    assert cost.step_fs(StepWork(tokens=1, context=1000)) == 3660 * 10**9 + cost.weights_fs + 1000 * cost.context_fs


def test_sequences_of_a_request_share_its_prompt() -> None:
    changes = {**TINY, "num_seqs": 200}
    rows = {kind: run("policy=paged", **changes, scenario={"num_samples": 4, "sampling": kind, "rate": 3.0}).values
            for kind in ("parallel", "beam")}  # fmt: skip
    assert 0 < rows["parallel"]["pages_saved_ratio"] < rows["beam"]["pages_saved_ratio"] < 0.75
    assert rows["beam"]["copied_pages"] > rows["parallel"]["copied_pages"] > 0
    still = run("policy=paged", **changes,
                scenario={"num_samples": 4, "sampling": "beam", "beam_turnover": 0.0, "rate": 3.0}).values  # fmt: skip
    assert still["pages_saved_ratio"] == rows["parallel"]["pages_saved_ratio"], "beams that never cross are samples"


def test_a_shared_prefix_is_held_and_computed_once() -> None:
    rows = {
        policy: run(f"policy={policy}", **{**TINY, "memory_budget": "32MiB", "model": {"max_seq_len": 512}},
                    scenario={"shared_prefix_tokens": 100, "rate": 50.0}).values
        for policy in ("reserved_oracle", "paged", "prefix")
    }  # fmt: skip
    assert rows["paged"]["prefix_hit_tokens"] == 60 * 100
    assert rows["prefix"]["prefix_hit_tokens"] == 59 * 96, "whole pages, and the first request computes them"
    assert rows["reserved_oracle"]["prefix_hit_tokens"] == 0
    assert rows["paged"]["ttft_ms_mean"] < rows["reserved_oracle"]["ttft_ms_mean"]


def test_a_replay_that_ends_before_its_first_step_is_unsupported() -> None:
    with pytest.raises(Unsupported, match="stops before the first step"):
        run("policy=paged", **{**TINY, "num_seqs": 1}, scenario={"stop_at": "trace_end"})


def test_a_request_that_never_fits_is_counted_named_and_skipped() -> None:
    answer = run("policy=paged", **{**TINY, "memory_budget": str(120 * 8192)})
    assert answer.values["refused_seqs"] == len(answer.samples["refused_requests"]) > 0
    assert answer.values["finished_requests"] + answer.values["refused_seqs"] == 60
    with pytest.raises(Unsupported, match="could never hold any of the 60 requests"):
        run("policy=reserved_max", **{**TINY, "memory_budget": "1MiB", "model": {"max_seq_len": 1024}})


def test_swapping_and_computing_again_are_charged() -> None:
    changes = {**TINY, "num_seqs": 300, "memory_budget": "3MiB"}
    rows = {kind: run("policy=paged", **changes, scenario={"preemption": kind, "rate": 200.0}).values
            for kind in ("recompute", "swap")}  # fmt: skip
    assert rows["recompute"]["recomputed_tokens"] > 0 == rows["recompute"]["swapped_out_pages"]
    assert rows["swap"]["swapped_out_pages"] == rows["swap"]["swapped_in_pages"] > 0
    assert json.loads(rows["swap"]["curves"])["time_s"]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"scenario": {"rate": 0.0}}, "scenario.rate=0.0 must be above 0"),
        ({"scenario": {"rate": -2.0}}, "scenario.rate=-2.0 must be above 0"),
        ({"scenario": {"arrivals": "gamma", "cv": 0.0}}, "scenario.cv=0.0 must be above 0"),
        ({"scenario": {"arrivals": "posson"}}, "did you mean poisson"),
        ({"scenario": {"num_samples": 300}}, "scenario.max_batch_seqs=256 must be at least 300"),
        ({"scenario": {"arrivals": "trace"}}, "scenario.arrivals=trace requires workload=trace"),
        ({"scenario": {"beam_turnover": 1.5}}, "must be between 0 and 1"),
        ({"cost": {"read_gbps": None}}, "cost.read_gbps is missing. cost=a100-40gb requires it"),
        ({"cost": {"num_gpus": 3}}, "cost.num_gpus=3 must divide model.num_kv_heads=8"),
        ({"model": {"num_parameters": 0}}, "model.num_parameters=0 must be at least 1"),
        ({"scenario": {"stop_at": "trace_end", "arrivals": "saturated"}}, "scenario.stop_at=trace_end must be drained"),
    ],
)
def test_bad_input_is_one_sentence(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        build(Composed("scenario=serving", **changes).values)


def test_an_unknown_gpu_is_refused_with_the_known_names(bench: Any, tmp_path: Any) -> None:
    done = bench("-m", "scenario=serving", "cost=a100", f"run_dir={tmp_path / 'run'}")
    assert done.returncode == 2
    assert "a100-40gb" in done.stderr
    assert "h100-80gb" in done.stderr


def test_the_cost_model_is_in_the_key_of_serving_alone() -> None:
    point = plan_of(Composed("scenario=churn")).points[0]
    assert "cost" not in point.question
    assert "num_parameters" not in point.question["model"]
    assert "cost" in plan_of(Composed("scenario=serving")).points[0].question


def test_values_without_effect_are_not_in_the_key() -> None:
    def key(**scenario: Any) -> str:
        return plan_of(Composed("scenario=serving", scenario=scenario)).points[0].key

    assert key(cv=2.0) == key() != key(arrivals="gamma", cv=2.0)
    assert key(beam_turnover=0.5) == key() == key(sampling="beam", beam_turnover=0.5)
    assert key(swap_pool_ratio=0.5) == key() != key(preemption="swap", swap_pool_ratio=0.5)
    assert key(swap_pool_ratio=0.5, num_samples=2) != key(num_samples=2)
    assert key(arrivals="saturated", rate=5.0) == key(arrivals="saturated")
    assert "num_seqs" in ServingScenario(duration_s=60.0).ignored_roots
