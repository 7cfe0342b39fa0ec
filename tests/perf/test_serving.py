"""Speed of scenario ``serving``. It is printed, and asserted only as a ratio within one run.

python -m pytest tests/perf/test_serving.py -m perf -s -p no:xdist
"""

from __future__ import annotations

import resource
import time
from typing import Any

import pytest

from bench.config import Config
from bench.measure.timers.quiet import quiet
from bench.scenarios.serving.load import make_load
from bench.scenarios.serving.scenario import answer_of, make_memory, replay
from tests.support.points import Composed, plan_of
from tests.support.policy_models import trace_file

pytestmark = pytest.mark.perf

LOOP = 10_000_000


def config(*overrides: str, **changes: Any) -> Config:
    return plan_of(Composed("scenario=serving", *overrides, **changes)).points[0].config


def timed(name: str, asked: Config, rounds: int = 1) -> float:
    """Least seconds of processor time of load, replay and metrics, printed beside what was served."""
    best = float("inf")
    for _ in range(rounds):
        start = time.process_time()
        load = make_load(asked)
        memory = make_memory(asked, load)
        with quiet():
            record = replay(asked, load, memory)
        row = answer_of(asked, load, memory, record, 0.0).values
        best = min(best, time.process_time() - start)
    print(
        f"\n{name}: {best:.2f} s for {len(load):,} requests, {row['output_tokens']:,} tokens, {row['steps']:,} steps, "
        f"{row['preemptions']:,} preemptions; {1e6 * best / len(load):.0f} us per request; "
        f"largest resident set so far {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB"
    )
    return best


def machine() -> float:
    """Seconds of a plain loop, by which a busy or slow machine shows."""
    start, total = time.process_time(), 0
    for number in range(LOOP):
        total += number
    return time.process_time() - start


@pytest.fixture(autouse=True)
def _beside_the_machine() -> Any:
    before = machine()
    yield
    print(f"a loop of {LOOP:,} additions takes {before:.2f} s before and {machine():.2f} s after")


@pytest.mark.parametrize("policy", ["reserved_max", "reserved_oracle", "paged"])
def benchmark_an_hour_of_opt_13b_at_two_requests_per_second(policy: str) -> None:
    path = trace_file("derived_sharegpt_papermatched5000.csv.gz")
    changes = {"workload": {"path": str(path)}, "policy": {"name": policy, "arena": "buddy", "watermark": 0.01}}
    scenario = {"duration_s": 3600.0, "rate": 2.0}
    asked = config("model=opt-13b", "workload=trace", memory_budget="12GiB", scenario=scenario, **changes)
    timed(f"an hour of OPT-13B, {policy}", asked, rounds=3)


def benchmark_the_azure_conversations() -> None:
    path = trace_file("AzureLLMInferenceTrace_conv.csv.gz")
    changes = {"workload": {"path": str(path)}, "policy": {"name": "paged", "watermark": 0.01}}
    scenario, model = {"arrivals": "trace", "duration_s": 3600.0}, {"max_seq_len": 16384}
    asked = config("model=llama-2-7b", "workload=trace", "cost=a100-80gb", memory_budget="55GiB", scenario=scenario,
                   model=model, **changes)  # fmt: skip
    timed("the Azure conversation trace, Llama 2 7B", asked, rounds=3)


@pytest.mark.timeout(1800)
def test_time_grows_linearly_with_requests() -> None:
    seconds = {}
    for number in (10_000, 100_000, 1_000_000):
        asked = config("model=opt-13b", "workload=lognormal", "policy=paged", memory_budget="12GiB", num_seqs=number,
                       scenario={"rate": 1.8}, policy={"name": "paged", "watermark": 0.01})  # fmt: skip
        seconds[number] = timed(f"{number:,} requests", asked)
    assert seconds[1_000_000] / seconds[100_000] < 15
