"""Physical memory of this process and its device: readings, each null with a reason where it cannot be had."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import torch

ON_CPU = "there is no CUDA device in this point"

DEVICE_COLUMNS = ("torch_allocated_peak_bytes", "torch_reserved_peak_bytes", "device_memory_bytes")


@dataclass(kw_only=True)
class Reading:
    """Bytes by column name, and why others are missing."""

    values: dict[str, int] = field(default_factory=dict)
    null_reasons: dict[str, str] = field(default_factory=dict)


class MemoryProbe:
    """Compares the present with an idle reading taken at construction, after warm-up."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        if device.type == "cuda":
            torch.cuda.synchronize(device)
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(device)
            self._nvml = NvmlReader(device)
            self._idle_device = self._nvml.device_used()
            self._idle_process = self._nvml.process_used()
        else:
            _reset_peak_resident()
            self._idle_resident = psutil.Process().memory_info().rss

    def read(self) -> Reading:
        """Peaks since construction, while everything is still held."""
        return self._read_cuda() if self.device.type == "cuda" else self._read_cpu()

    def _read_cpu(self) -> Reading:
        peak = peak_resident_bytes()
        return Reading(
            values={"process_memory_bytes": peak, "process_memory_rise_bytes": peak - self._idle_resident},
            null_reasons=dict.fromkeys(DEVICE_COLUMNS, ON_CPU),
        )

    def _read_cuda(self) -> Reading:
        torch.cuda.synchronize(self.device)
        reading = Reading(
            values={
                "torch_allocated_peak_bytes": torch.cuda.max_memory_allocated(self.device),
                "torch_reserved_peak_bytes": torch.cuda.max_memory_reserved(self.device),
            }
        )
        device, process = self._nvml.device_used(), self._nvml.process_used()
        if isinstance(device, int) and isinstance(self._idle_device, int):
            reading.values["device_memory_bytes"] = device - self._idle_device
        else:
            reading.null_reasons["device_memory_bytes"] = str(device)
        if isinstance(process, int) and isinstance(self._idle_process, int):
            reading.values["process_memory_bytes"] = process
            reading.values["process_memory_rise_bytes"] = process - self._idle_process
        else:
            reason = str(process if isinstance(process, str) else self._idle_process)
            reading.null_reasons |= dict.fromkeys(("process_memory_bytes", "process_memory_rise_bytes"), reason)
        return reading


class NvmlReader:
    """NVML's view of one CUDA device, found by UUID since NVML ignores ``CUDA_VISIBLE_DEVICES``.

    Each method returns bytes, or the reason why there are none.
    """

    def __init__(self, device: torch.device) -> None:
        self.problem: str | None = None
        try:
            import pynvml
        except ImportError:
            self.problem = "nvidia-ml-py is not installed"
            return
        self._nvml = pynvml
        try:
            pynvml.nvmlInit()
            uuid = f"GPU-{torch.cuda.get_device_properties(device).uuid}"
            self._handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)
        except pynvml.NVMLError as error:
            self.problem = f"NVML: {error}"

    def device_used(self) -> int | str:
        """Used bytes of the device without what the driver reserves (memory info, version 2)."""
        if self.problem:
            return self.problem
        try:
            info = self._nvml.nvmlDeviceGetMemoryInfo(self._handle, version=self._nvml.nvmlMemory_v2)
        except self._nvml.NVMLError as error:
            return f"NVML device memory: {error}"
        return int(info.used)

    def process_used(self) -> int | str:
        """Bytes that NVML attributes to this process."""
        if self.problem:
            return self.problem
        try:
            processes = self._nvml.nvmlDeviceGetComputeRunningProcesses(self._handle)
        except self._nvml.NVMLError as error:
            return f"NVML processes: {error}"
        mine = [process for process in processes if process.pid == os.getpid()]
        if not mine:
            return "pid_namespace: NVML lists no process with this PID (a container, say)"
        if mine[0].usedGpuMemory is None:
            return "NVML does not tell the memory of processes on this driver"
        return int(mine[0].usedGpuMemory)


def _reset_peak_resident() -> None:
    """Linux forgets the peak on request; elsewhere the peak since process start stands."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_resident_bytes() -> int:
    """Peak resident set of this process."""
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    import resource
    import sys

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def available_host_bytes() -> int:
    """Host memory that can still be taken: what the system has available, or less where a control group allows less."""
    available: int = psutil.virtual_memory().available
    limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    try:
        allowed = int(limit.read_text()) - int(used.read_text())
    except (OSError, ValueError):  # no control groups, or no limit ("max")
        return available
    return min(available, allowed)
