"""Telemetry and what is doubted: states from the scripted NVML, doubts one by one."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from types import SimpleNamespace
from typing import Any

import pytest

from bench.measure.machine.fitness import ADVICE, doubts, fitness_columns, sample_doubts
from bench.measure.machine.host_state import (
    HeavyProcesses,
    _processor_seconds,
    cores_of_others,
    host_state,
    usable_cores,
)
from bench.measure.machine.telemetry import Telemetry
from tests.support.nvml import TWO_GPUS, UnderNvml

CARD = TWO_GPUS | {
    "driver": "999.1",
    "1.nvmlDeviceGetClockInfo": 1980, "1.nvmlDeviceGetMaxClockInfo": 2000, "1.nvmlDeviceGetTemperature": 41,
    "1.nvmlDeviceGetPowerUsage": 350_500, "1.nvmlDeviceGetEnforcedPowerLimit": 700_000,
    "1.nvmlDeviceGetCurrentClocksEventReasons": 0x44, "1.nvmlDeviceGetTotalEccErrors": 0,
    "1.nvmlDeviceGetEccMode": 1, "1.nvmlDeviceGetMigMode": 0, "1.nvmlDeviceGetPersistenceMode": 1,
    "1.processes": "self:1;77:2",
}  # fmt: skip
READ = "from bench.measure.machine.telemetry import Telemetry\nwatch = Telemetry('aaaa')\n"


def test_the_state_of_a_gpu(under_nvml: UnderNvml) -> None:
    state, throttled = under_nvml(f"{READ}answer = [watch.read(), watch.throttled()]", CARD)
    assert state["gpu"] == {
        "sm_clock_mhz": 1980, "memory_clock_mhz": 1980, "temperature_c": 41, "power_w": 350.5,
        "clock_events": ["sw_power_cap", "hw_thermal_slowdown"], "other_processes": 1, "ecc_uncorrected": 0,
    }  # fmt: skip
    assert throttled


def test_an_old_driver_has_another_name_for_clock_events(under_nvml: UnderNvml) -> None:
    script = CARD | {"1.nvmlDeviceGetCurrentClocksThrottleReasons": 0x1}
    state, throttled = under_nvml(f"{READ}answer = [watch.read(), watch.throttled()]", script, driver="old")
    assert state["gpu"]["clock_events"] == ["gpu_idle"]
    assert not throttled


def test_a_device_without_readings_is_null_throughout(under_nvml: UnderNvml) -> None:
    silent = TWO_GPUS | {"error.nvmlDeviceGetComputeRunningProcesses_v3": 3}
    state = under_nvml(f"{READ}answer = watch.read()", silent)
    assert set(state["gpu"].values()) == {None}


def test_no_nvml_is_a_problem_and_no_crash(under_nvml: UnderNvml) -> None:
    state, throttled = under_nvml(f"{READ}answer = [watch.read(), watch.throttled()]", {}, driver=None)
    assert state["gpu_problem"].startswith("no_library: ")
    assert not throttled


def test_the_cards_settings(under_nvml: UnderNvml) -> None:
    code = (
        "from bench.measure.machine.nvml import Nvml\nfrom bench.measure.machine.gpu_state import gpu_facts\n"
        "nvml = Nvml()\nanswer = gpu_facts(nvml, nvml.device('aaaa'))\nanswer.pop('gpu_state')"
    )
    assert under_nvml(code, CARD) == {
        "driver": "999.1", "gpu_ecc": True, "gpu_mig": False, "gpu_power_limit_w": 700.0,
        "gpu_max_sm_clock_mhz": 2000, "gpu_max_memory_clock_mhz": 2000, "gpu_persistence": 1,
    }  # fmt: skip


HOST = {"time_s": 0.0, "busy_s": 0.0, "own_s": 0.0, "load_average": 0.1, "frequency_mhz": 3000.0,
        "governor": "performance"}  # fmt: skip
GPU = {"sm_clock_mhz": 1980, "memory_clock_mhz": 2600, "temperature_c": 40, "power_w": 200.0, "clock_events": [],
       "other_processes": 0, "ecc_uncorrected": 0}  # fmt: skip


def judged(
    host: dict[str, Any] | None = None, gpu: dict[str, Any] | None = None, *, on_cuda: bool = False, heavy: int = 0
) -> list[str]:
    before = {"host": HOST, "gpu": GPU}
    after = {"host": HOST | {"time_s": 10.0, "busy_s": 10.0, "own_s": 10.0} | (host or {}), "gpu": GPU | (gpu or {})}
    found = doubts([{"before": before, "after": after}], usable_cores=2, heavy_processes=heavy, on_cuda=on_cuda)
    assert set(found) <= set(ADVICE)
    return list(found)


def test_a_quiet_machine_is_fit() -> None:
    assert judged() == judged(on_cuda=True) == []
    assert fitness_columns({}) == {"fitness": "ok", "fitness_reasons": None}


@pytest.mark.parametrize(
    ("host", "heavy", "code"),
    [
        ({"busy_s": 16.0}, 0, "busy_cpu"),
        ({"governor": "powersave"}, 0, "governor"),
        ({"frequency_mhz": 2000.0}, 0, "frequency"),
        ({}, 3, "heavy_processes"),
    ],
)
def test_each_doubt_about_a_host(host: dict[str, Any], heavy: int, code: str) -> None:
    assert judged(host, heavy=heavy) == [code]
    assert judged(host, heavy=heavy, on_cuda=True) == ([code] if code == "busy_cpu" else [])


@pytest.mark.parametrize(
    ("gpu", "code"),
    [
        ({"clock_events": ["hw_thermal_slowdown"]}, "throttled"),
        ({"clock_events": ["sw_power_cap"]}, "power_cap"),
        ({"other_processes": 2}, "other_gpu_processes"),
        ({"ecc_uncorrected": 1}, "ecc"),
        ({"clock_events": None, "sm_clock_mhz": None}, "unwatched"),
    ],
)
def test_each_doubt_about_a_gpu(gpu: dict[str, Any], code: str) -> None:
    assert judged(gpu=gpu, on_cuda=True) == [code]
    assert judged(gpu=gpu) == [], "the times of a CPU do not depend on it"


def test_a_gpu_without_readings_is_doubted() -> None:
    block = {"before": {"host": HOST, "gpu_problem": "no_library: x"}, "after": {"host": HOST, "gpu_problem": "y"}}
    assert list(doubts([block], usable_cores=2, heavy_processes=0, on_cuda=True)) == ["unwatched"]


def test_noise_and_discards_are_doubted() -> None:
    assert sample_doubts("decode_us", 0.01, 0.0) == {}
    assert list(sample_doubts("decode_us", 0.2, 0.1)) == ["noisy", "discarded"]
    columns = fitness_columns(sample_doubts("decode_us", 0.2, 0.1))
    assert columns["fitness"] == "doubtful"
    assert columns["fitness_reasons"].startswith("noisy: ")


def test_the_processor_time_of_others_is_counted_separately() -> None:
    before = host_state()
    until = time.process_time() + 0.3
    while time.process_time() < until:
        pass
    after = host_state()
    assert after["own_s"] - before["own_s"] >= 0.25
    ours_only = {**after, "busy_s": before["busy_s"] + after["own_s"] - before["own_s"]}
    assert cores_of_others(before, ours_only) == pytest.approx(0, abs=1e-6)
    others_too = {**ours_only, "busy_s": ours_only["busy_s"] + 2 * (after["time_s"] - before["time_s"])}
    assert cores_of_others(before, others_too) == pytest.approx(2)
    assert usable_cores() >= 1


def test_a_process_that_computed_is_heavy_unless_it_was_expected(monkeypatch: pytest.MonkeyPatch) -> None:
    readings = iter([{7: 5.0, 8: 1.0}, *[{7: 7.0, 8: 1.01, 9: 2.0}] * 3])
    clock = iter([100.0, *[102.0] * 3])
    module = "bench.measure.machine.host_state"
    monkeypatch.setattr(f"{module}._processor_seconds", lambda: next(readings))
    monkeypatch.setattr(f"{module}.time", SimpleNamespace(monotonic=lambda: next(clock)))
    heavy = HeavyProcesses()
    assert heavy.count() == 2, "one that ran before, and one that began since"
    assert heavy.count({7}) == 1
    assert heavy.count({7, 9}) == 0


def test_the_processor_time_of_another_process_is_read() -> None:
    """The process reports when it has computed for long enough, so that busy neighbours only delay the test."""
    code = "import time\nwhile time.process_time() < 0.3: pass\nprint(flush=True)\ninput()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as busy:
        assert busy.stdin is not None
        assert busy.stdout is not None
        busy.stdout.readline()
        seconds = _processor_seconds()
        busy.stdin.write(b"\n")
    assert seconds[busy.pid] >= 0.25
    assert os.getpid() not in seconds


def test_a_cpu_needs_no_nvml() -> None:
    watch = Telemetry(None)
    assert set(watch.read()) == {"host"}
    assert not watch.throttled()
