"""NVML through the real binding: other orders, other namespaces, old drivers, no drivers, each case by name."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.nvml import TWO_GPUS, UnderNvml

"""CUDA's device 0 has the UUID aaaa; NVML lists it second."""

OPEN = (
    "from dataclasses import asdict\nfrom bench.measure.machine.nvml import *\n"
    "try:\n    nvml = Nvml()\n    handle = nvml.device('aaaa')\n    problem = None\n"
    "except NvmlProblem as error:\n    problem = str(error)\n"
)


def quantity(under_nvml: UnderNvml, what: str, script: dict[str, Any], **options: Any) -> dict[str, Any]:
    told: dict[str, Any] = under_nvml(f"{OPEN}answer = asdict({what})", script, **options)
    return told


def test_the_device_is_found_by_uuid_whatever_the_order(under_nvml: UnderNvml) -> None:
    used = quantity(under_nvml, "device_used(nvml, handle)", TWO_GPUS)
    assert used == {"value": 3000, "source": "nvml_v2", "confidence": "high", "reason": None}


def test_our_process_is_found_by_its_pid(under_nvml: UnderNvml) -> None:
    used = quantity(under_nvml, "process_used(nvml, handle, {11, 12})", TWO_GPUS)
    assert used == {"value": 1234, "source": "nvml_pid", "confidence": "high", "reason": None}


def test_an_unknown_uuid_is_reported(under_nvml: UnderNvml) -> None:
    assert under_nvml(f"{OPEN}answer = problem", {**TWO_GPUS, "1.uuid": "GPU-cccc"}).startswith("not_found: ")


def test_a_mig_slice_is_found_by_its_own_uuid(under_nvml: UnderNvml) -> None:
    script = {**TWO_GPUS, "1.uuid": "MIG-aaaa"}
    assert quantity(under_nvml, "device_used(nvml, handle)", script)["value"] == 3000
    named = {**TWO_GPUS, "devices": 3, "2.uuid": "MIG-slice", "2.used": 55}
    env = {"CUDA_VISIBLE_DEVICES": "MIG-slice"}
    assert quantity(under_nvml, "device_used(nvml, handle)", named, env=env)["value"] == 55, (
        "the slice, not its whole card"
    )


def test_one_new_process_among_host_pids_is_taken_with_low_confidence(under_nvml: UnderNvml) -> None:
    script = {**TWO_GPUS, "1.processes": "4001:100;4002:2222"}
    used = quantity(under_nvml, "process_used(nvml, handle, {4001})", script)
    assert used == {"value": 2222, "source": "nvml_only_new_process", "confidence": "low", "reason": None}


@pytest.mark.parametrize(
    ("processes", "known", "reason"),
    [
        ("4001:100;4002:200;4003:300", "{4001}", "has our PID, and 2 appeared since our context"),
        ("4001:100;4002:200;4003:300", "{4001}", "pid_namespace: none of the 3 processes that NVML lists has our PID"),
        ("4001:100", "{4001}", "and 0 appeared since our context"),
        ("4001:100", "None", "and PIDs were not read before our context"),
        ("self:na", "set()", "not_available: the driver lists this process without its memory"),
        ("4002:na", "set()", "not_available: "),
    ],
)  # fmt: skip
def test_a_process_that_cannot_be_identified_is_null_with_a_reason(
    under_nvml: UnderNvml, processes: str, known: str, reason: str
) -> None:
    used = quantity(under_nvml, f"process_used(nvml, handle, {known})", {**TWO_GPUS, "1.processes": processes})
    assert used["value"] is None
    assert reason in used["reason"]


def test_a_host_pid_equal_to_ours_is_another_process(under_nvml: UnderNvml) -> None:
    script = {**TWO_GPUS, "1.processes": "self:999;4002:2222"}
    used = quantity(under_nvml, "process_used(nvml, handle, {os.getpid()})", script)
    assert (used["value"], used["confidence"]) == (2222, "low")


def test_all_pids_are_of_all_devices(under_nvml: UnderNvml) -> None:
    answer = under_nvml(f"{OPEN}answer = sorted(nvml.all_pids() - {{os.getpid()}})", TWO_GPUS)
    assert answer == [11, 12]


def test_an_old_driver_answers_in_its_own_way(under_nvml: UnderNvml) -> None:
    used = quantity(under_nvml, "process_used(nvml, handle, set())", TWO_GPUS, driver="old")
    assert (used["value"], used["source"]) == (1234, "nvml_pid")
    device = quantity(under_nvml, "device_used(nvml, handle)", TWO_GPUS, driver="old")
    assert (device["value"], device["source"]) == (3800, "nvml_v1"), "what the driver reserves is in it, and it says so"


@pytest.mark.parametrize(
    ("function", "code", "what", "reason"),
    [
        ("nvmlDeviceGetMemoryInfo_v2", 3, "device_used(nvml, handle)", "not_supported"),
        ("nvmlDeviceGetComputeRunningProcesses_v3", 3, "process_used(nvml, handle, set())", "not_supported"),
        ("nvmlDeviceGetComputeRunningProcesses_v3", 4, "process_used(nvml, handle, set())", "no_permission"),
        ("nvmlDeviceGetMemoryInfo_v2", 15, "device_used(nvml, handle)", "lost"),
        ("nvmlDeviceGetMemoryInfo_v2", 999, "device_used(nvml, handle)", "nvml_error"),
    ],
)
def test_every_refusal_has_a_name(under_nvml: UnderNvml, function: str, code: int, what: str, reason: str) -> None:
    used = quantity(under_nvml, what, {**TWO_GPUS, f"error.{function}": code})
    assert used["value"] is None
    assert used["reason"].startswith(f"{reason}: ")
    assert function.removesuffix("_v2") in used["reason"]


def test_an_nvml_that_dies_between_two_calls(under_nvml: UnderNvml) -> None:
    code = f"{OPEN}before = device_used(nvml, handle).value\nscript(die_after=3)\n"
    code += "answer = [before, device_used(nvml, handle).reason, process_used(nvml, handle, set()).reason]"
    before, device, process = under_nvml(code, TWO_GPUS)
    assert before == 3000
    assert device.startswith("lost: ")
    assert process.startswith("lost: ")


@pytest.mark.parametrize(
    ("driver", "script", "reason"),
    [
        (None, {}, "no_library: libnvidia-ml.so.1 is not on this system"),
        ("new", {"error.nvmlInitWithFlags": 9}, "no_driver: "),
        ("new", {"die_after": 0}, "lost: "),
    ],
)
def test_no_nvml_at_all(under_nvml: UnderNvml, driver: str | None, script: dict[str, Any], reason: str) -> None:
    assert under_nvml(f"{OPEN}answer = problem", {**TWO_GPUS, **script}, driver=driver).startswith(reason)


def test_no_binding(under_nvml: UnderNvml) -> None:
    code = f"import sys\nsys.modules['pynvml'] = None\n{OPEN}answer = problem"
    assert under_nvml(code, TWO_GPUS).startswith("no_binding: ")


def test_nvml_needs_no_torch(under_nvml: UnderNvml) -> None:
    assert under_nvml(f"import sys\n{OPEN}answer = 'torch' in sys.modules", TWO_GPUS) is False
