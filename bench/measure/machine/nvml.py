"""NVML's view of the devices: every answer is a value or the reason why there is none. No torch.

Open it in the process that asks: handles do not survive a fork.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, NamedTuple

PROBLEMS = {
    "NVMLError_LibraryNotFound": "no_library: libnvidia-ml.so.1 is not on this system",
    "NVMLError_DriverNotLoaded": "no_driver: the NVIDIA driver is not loaded",
    "NVMLError_NotSupported": "not_supported: this device does not tell it (a MIG slice or unified memory, say)",
    "NVMLError_FunctionNotFound": "old_driver: the driver is older than this question",
    "NVMLError_NoPermission": "no_permission: only a privileged user is told",
    "NVMLError_NotFound": "not_found: NVML has no device of this UUID",
    "NVMLError_GpuIsLost": "lost: the device has fallen off the bus or NVML has died",
}
"""What an exception of the binding means, by its class; the word before the colon is a code."""


class NvmlProblem(Exception):
    """NVML cannot answer; the message begins with a code of ``PROBLEMS``, ``no_binding`` or ``nvml_error``."""

    @property
    def code(self) -> str:
        """The word before the colon."""
        return str(self).partition(":")[0]


@dataclass(frozen=True, kw_only=True)
class Quantity:
    """Bytes and where they come from, or why there are none.

    Attributes:
        value: bytes, or ``None``.
        source: how they were had.
        confidence: ``high``, or ``low`` where they may be another process's.
        reason: why ``value`` is ``None``.
    """

    value: int | None = None
    source: str | None = None
    confidence: str | None = None
    reason: str | None = None


class Process(NamedTuple):
    """A compute process on a device; ``used_bytes`` is ``None`` where the driver does not tell."""

    pid: int
    used_bytes: int | None


class Nvml:
    """The library, opened.

    Raises:
        NvmlProblem: there is no binding, library or driver.
    """

    def __init__(self) -> None:
        try:
            self._pynvml = importlib.import_module("pynvml")
        except ImportError as error:
            raise NvmlProblem("no_binding: the package nvidia-ml-py is not installed") from error
        self.call("nvmlInit")

    def call(self, function: str, *arguments: Any, **options: Any) -> Any:
        """Call a function of the binding.

        Raises:
            NvmlProblem: it failed, or the binding is older than the function.
        """
        call: Callable[..., Any] | None = getattr(self._pynvml, function, None)
        if call is None:
            raise NvmlProblem(f"old_binding: nvidia-ml-py has no {function}; install a newer one")
        try:
            return call(*arguments, **options)
        except self._pynvml.NVMLError as error:
            known = PROBLEMS.get(type(error).__name__)
            raise NvmlProblem(f"{known} ({function})" if known else f"nvml_error: {function}: {error}") from error

    def constant(self, name: str) -> Any:
        """A constant of the binding."""
        return getattr(self._pynvml, name)

    def device(self, uuid: str, index: int = 0) -> Any:
        """Handle of the device that CUDA calls ``uuid``: NVML's order and numbers are not CUDA's.

        Args:
            uuid: as torch tells it, without a prefix.
            index: torch's number of the device, to find a MIG slice in ``CUDA_VISIBLE_DEVICES``.

        Raises:
            NvmlProblem: NVML knows no such device.
        """
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
        slices = [name.strip() for name in visible[index : index + 1] if name.strip().startswith("MIG-")]
        problem = NvmlProblem(PROBLEMS["NVMLError_NotFound"])
        for name in (*slices, f"GPU-{uuid}", f"MIG-{uuid}"):
            try:
                return self.call("nvmlDeviceGetHandleByUUID", name)
            except NvmlProblem as error:
                problem = error
        raise problem

    def processes(self, handle: Any) -> list[Process]:
        """Compute processes of a device; in a container the PIDs may be the host's.

        Raises:
            NvmlProblem: the driver does not list them.
        """
        try:
            listed = self.call("nvmlDeviceGetComputeRunningProcesses_v3", handle)
        except NvmlProblem as error:
            if error.code != "old_driver":
                raise
            listed = self.call("nvmlDeviceGetComputeRunningProcesses_v2", handle)
        return [Process(int(p.pid), None if p.usedGpuMemory is None else int(p.usedGpuMemory)) for p in listed]

    def all_pids(self) -> set[int]:
        """PIDs on any device; devices that do not list theirs are left out.

        Raises:
            NvmlProblem: the devices cannot be counted.
        """
        pids: set[int] = set()
        for index in range(self.call("nvmlDeviceGetCount")):
            try:
                pids |= {p.pid for p in self.processes(self.call("nvmlDeviceGetHandleByIndex", index))}
            except NvmlProblem:
                continue
        return pids


def device_used(nvml: Nvml, handle: Any) -> Quantity:
    """Used bytes of a device: of version 2, which leaves out what the driver reserves, or else of 1.

    Only differences of one source mean anything.
    """
    try:
        info = nvml.call("nvmlDeviceGetMemoryInfo", handle, version=nvml.constant("nvmlMemory_v2"))
        return Quantity(value=int(info.used), source="nvml_v2", confidence="high")
    except NvmlProblem as error:
        if error.code != "old_driver":
            return Quantity(reason=str(error))
    try:
        info = nvml.call("nvmlDeviceGetMemoryInfo", handle)
    except NvmlProblem as error:
        return Quantity(reason=str(error))
    return Quantity(value=int(info.used), source="nvml_v1", confidence="high")


def process_used(nvml: Nvml, handle: Any, known_pids: Collection[int] | None) -> Quantity:
    """Bytes that NVML attributes to this process.

    By its PID; where NVML lists host PIDs (a container), the one process that has appeared since
    ``known_pids`` is taken for it, with low confidence.

    Args:
        nvml: the library.
        handle: the device.
        known_pids: all PIDs before this process had a CUDA context; ``None``: not looked at then.
    """
    try:
        processes = nvml.processes(handle)
    except NvmlProblem as error:
        return Quantity(reason=str(error))
    # Whoever was there before our context is not us, even with our PID: that is then of another namespace.
    new = [process for process in processes if process.pid not in (known_pids or ())]
    mine = [process for process in new if process.pid == os.getpid()]
    if mine:
        return _told(mine[0], source="nvml_pid", confidence="high")
    if known_pids is not None and len(new) == 1:
        return _told(new[0], source="nvml_only_new_process", confidence="low")
    since = "no look was taken before our context" if known_pids is None else f"{len(new)} appeared since our context"
    return Quantity(
        reason=f"pid_namespace: none of the {len(processes)} processes that NVML lists has our PID, and {since}"
    )


def _told(process: Process, *, source: str, confidence: str) -> Quantity:
    if process.used_bytes is None:
        return Quantity(reason="not_available: the driver lists this process without its memory (WDDM or WSL, say)")
    return Quantity(value=process.used_bytes, source=source, confidence=confidence)
