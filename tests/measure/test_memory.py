"""Readings of memory: on the host for real, on a GPU through the real binding and a stand-in for ``torch.cuda``."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.measure.machine.fitness import ADVICE, with_memory_doubt
from bench.measure.machine.nvml import Quantity
from bench.measure.memory import resident
from bench.measure.memory.available import available_host_bytes, host_memory_bytes
from bench.measure.memory.polling import Poller
from bench.measure.memory.probe import DEVICE_COLUMNS, NOT_POLLED, MemoryProbe, difference
from bench.rows.columns import BY_NAME
from bench.rows.result import Answer
from tests.support.nvml import TWO_GPUS, UnderNvml

MIB = 2**20
CPU = torch.device("cpu")

CUDA = """
from types import SimpleNamespace
from bench.measure.memory.probe import MemoryProbe, pids_on_gpus

class Cuda:
    '''A device 0 of UUID aaaa, of which torch holds some bytes.'''
    reserved, free = 300, 50_000
    def synchronize(self, device): pass
    empty_cache = lambda self: None
    reset_peak_memory_stats = synchronize
    def get_device_properties(self, device): return SimpleNamespace(uuid='aaaa')
    def memory_reserved(self, device): return self.reserved
    def max_memory_allocated(self, device): return self.reserved - 100
    def max_memory_reserved(self, device): return self.reserved
    def memory_stats(self, device): return {'num_alloc_retries': self.reserved // 1000}
    def mem_get_info(self, device): return self.free, 80_000

def measure(before, **during):
    known = pids_on_gpus()
    script(**before)
    cuda = Cuda()
    probe = MemoryProbe(SimpleNamespace(type='cuda', index=None), known_pids=known, poll_ms=POLL_MS, cuda=cuda)
    cuda.reserved, cuda.free = 2300, 47_000
    script(**during)
    reading = probe.read()
    return [reading.values, reading.null_reasons]
"""


def measured(under_nvml: UnderNvml, call: str, script: dict[str, Any], *, poll_ms: float = 0, **options: Any) -> Any:
    return under_nvml(f"{CUDA.replace('POLL_MS', str(poll_ms))}answer = {call}", script, **options)


IDLE = "dict(_1__processes='self:1500')"
FULL = "_1__processes='self:3600', _1__used=5200"


def test_all_levels_of_a_gpu(under_nvml: UnderNvml) -> None:
    values, reasons = measured(under_nvml, f"measure({IDLE}, {FULL})", TWO_GPUS | {"1.processes": "11:500"})
    assert values == {
        "torch_allocated_peak_bytes": 2200,
        "torch_reserved_peak_bytes": 2300,
        "torch_reserved_idle_bytes": 300,
        "torch_alloc_retries": 2,
        "process_memory_bytes": 3600,
        "process_memory_source": "nvml_pid",
        "process_memory_confidence": "high",
        "process_memory_rise_bytes": 2100,
        "device_memory_bytes": 2200,
        "device_memory_source": "nvml_v2",
    }
    assert reasons == {"polled_peak_rise_bytes": NOT_POLLED}
    assert set(values) | set(reasons) <= set(BY_NAME)


def test_host_pids_and_unified_memory(under_nvml: UnderNvml) -> None:
    script = TWO_GPUS | {"1.processes": "70:5", "error.nvmlDeviceGetMemoryInfo_v2": 3}
    values, _ = measured(
        under_nvml, "measure(dict(_1__processes='70:5;4002:1500'), _1__processes='70:5;4002:3600')", script
    )
    assert (values["process_memory_rise_bytes"], values["process_memory_confidence"]) == (2100, "low")
    assert (values["device_memory_bytes"], values["device_memory_source"]) == (3000, "mem_get_info (not_supported)")


def test_an_nvml_that_dies_leaves_reasons_and_torch(under_nvml: UnderNvml) -> None:
    values, reasons = measured(under_nvml, f"measure({IDLE}, die_after=0)", TWO_GPUS)
    assert values["torch_allocated_peak_bytes"] == 2200
    assert reasons["process_memory_bytes"].startswith("lost: ")
    assert reasons["process_memory_rise_bytes"].startswith("lost: ")
    assert reasons["device_memory_bytes"] == (
        "changed_source: the idle reading is from nvml_v2, the later from mem_get_info (lost)"
    )


def test_no_nvml_leaves_the_drivers_free_memory(under_nvml: UnderNvml) -> None:
    values, reasons = measured(under_nvml, "measure({})", TWO_GPUS, driver=None)
    assert (values["device_memory_bytes"], values["device_memory_source"]) == (3000, "mem_get_info (no_library)")
    assert reasons["process_memory_bytes"].startswith("no_library: ")


def test_polling_a_gpu_sees_a_peak_that_is_gone_at_the_end(under_nvml: UnderNvml) -> None:
    call = "(lambda m: m)(measure({}, _1__used=4000))"
    values, _ = measured(under_nvml, call, TWO_GPUS, poll_ms=1)
    assert values["polled_peak_rise_bytes"] == values["device_memory_bytes"] == 1000


def test_a_cpu_shows_the_peak_of_its_own_process() -> None:
    probe = MemoryProbe(CPU)
    held = torch.ones(64 * MIB, dtype=torch.int8)
    del held
    reading = probe.read()
    assert 60 * MIB < reading.values["process_memory_rise_bytes"] < 120 * MIB, "a peak, though all was given back"
    assert reading.values["process_memory_source"] == "resident_set"
    assert set(DEVICE_COLUMNS) <= set(reading.null_reasons)
    assert reading.null_reasons["polled_peak_rise_bytes"] == NOT_POLLED


def test_polling_a_cpu() -> None:
    probe = MemoryProbe(CPU, poll_ms=1)
    held = torch.ones(64 * MIB, dtype=torch.int8)
    reading = probe.read()
    assert reading.values["polled_peak_rise_bytes"] > 60 * MIB
    assert len(reading.poll) >= 1
    assert held.nbytes == 64 * MIB
    assert threading.active_count() == 1 or all("Poller" not in thread.name for thread in threading.enumerate())


def test_a_poller_without_answers_has_no_readings() -> None:
    assert Poller(lambda: None, 1).stop() == []


def test_without_nvml_the_processes_on_gpus_are_unknown(under_nvml: UnderNvml) -> None:
    code = "from bench.measure.memory.probe import pids_on_gpus\npids = pids_on_gpus()\nanswer = pids and sorted(pids)"
    assert under_nvml(code, {}, driver=None) is None
    assert under_nvml(code, TWO_GPUS | {"1.processes": "self:1;77:2"}) is not None


def test_differences_need_one_source() -> None:
    high = Quantity(value=5, source="nvml_v2", confidence="high")
    assert difference(high, Quantity(value=3, source="nvml_v2", confidence="high")).value == 2
    assert difference(high, Quantity(reason="lost: x")).reason == "lost: x"
    assert "changed_source" in str(difference(high, Quantity(value=3, source="nvml_v1")).reason)


def test_the_peak_without_proc_is_of_getrusage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resident.Path, "exists", lambda self: False)
    assert resident.peak_resident_bytes() > 10 * MIB


@pytest.mark.parametrize(
    ("during", "less"),
    [
        ("_1__processes='self:3600', _1__used=2000", "at the idle reading"),
        (f"_1__processes='self:{9 * MIB}', _1__used={4 * MIB}", "the idle reading and this process together"),
    ],
)
def test_memory_that_a_neighbour_releases_is_no_rise(under_nvml: UnderNvml, during: str, less: str) -> None:
    """See vLLM issue #56830: a device can hold less than before."""
    values, reasons = measured(under_nvml, f"measure({IDLE}, {during})", TWO_GPUS | {"1.processes": "11:500"})
    assert "device_memory_bytes" not in values
    assert reasons["device_memory_bytes"].startswith("changed_by_others: another process released memory")
    assert reasons["device_memory_bytes"].endswith(less)
    doubtful = with_memory_doubt(Answer(values={"fitness": "ok", "fitness_reasons": None}, null_reasons=reasons))
    assert doubtful.values["fitness"] == "doubtful"
    assert ADVICE["changed_by_others"].startswith("stop the other processes")


def test_an_old_binding_is_a_reason_and_not_a_traceback(under_nvml: UnderNvml) -> None:
    """The package pynvml 11 takes bytes, and knows no version 2 of the memory (vLLM issue #12904)."""
    old = ("import pynvml\n"
           "by_name = pynvml.nvmlDeviceGetHandleByUUID\n"
           "def only_bytes(name):\n"
           "    if isinstance(name, str): raise TypeError('bytes or integer address expected')\n"
           "    return by_name(name)\n")  # fmt: skip
    for change in ("pynvml.nvmlDeviceGetHandleByUUID = only_bytes\n", "del pynvml.nvmlMemory_v2\n"):
        values, reasons = under_nvml(f"{old}{change}{CUDA.replace('POLL_MS', '0')}answer = measure({{}})", TWO_GPUS)
        assert (values["device_memory_bytes"], values["device_memory_source"]) == (3000, "mem_get_info (old_binding)")
        assert reasons["process_memory_bytes"].startswith("old_binding: the package pynvml")
        assert "pip uninstall pynvml" in reasons["process_memory_bytes"]


@pytest.mark.parametrize(
    "files",
    [
        {"memory.max": "1000", "memory.current": "900", "memory.stat": "anon 300\ninactive_file 500\n"},
        {"memory/memory.limit_in_bytes": "1000", "memory/memory.usage_in_bytes": "900",
         "memory/memory.stat": "inactive_file 1\ntotal_inactive_file 500\n"},
    ],
)  # fmt: skip
def test_file_cache_of_a_container_is_available(tmp_path: Path, files: dict[str, str]) -> None:
    (tmp_path / "memory").mkdir()
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert available_host_bytes(tmp_path) == 600
    assert host_memory_bytes(tmp_path) == 1000


def test_a_container_without_a_limit_has_the_memory_of_the_system(tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("900\n")
    assert host_memory_bytes(tmp_path) == host_memory_bytes(tmp_path / "absent") > 2**20
    assert available_host_bytes(tmp_path) > 2**20
