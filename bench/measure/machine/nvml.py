"""Read devices through NVML. Every result is a value, or the reason why there is none. No torch.

Open the library in the process that uses it, because handles do not survive a fork.
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
    "NVMLError_NotSupported": "not_supported: this device does not report it (a MIG slice or unified memory)",
    "NVMLError_FunctionNotFound": "old_driver: the driver is older than this function",
    "NVMLError_NoPermission": "no_permission: only a privileged user may read it",
    "NVMLError_NotFound": "not_found: NVML has no device of this UUID",
    "NVMLError_GpuIsLost": "lost: the device has fallen off the bus or NVML has died",
}
"""Meaning of the exceptions of the binding, by class. The word before the colon is a code."""

OLD_BINDING = ("old_binding: the package pynvml that is imported is older than nvidia-ml-py 12. Run "
               "pip uninstall pynvml, then pip install nvidia-ml-py")  # fmt: skip
"""The packages pynvml and nvidia-ml-py install a module of the same name."""


class NvmlProblem(Exception):
    """NVML gives no value. The message begins with a code of ``PROBLEMS``, ``no_binding`` or ``nvml_error``."""

    @property
    def code(self) -> str:
        """The word before the colon."""
        return str(self).partition(":")[0]


@dataclass(frozen=True, kw_only=True)
class Quantity:
    """Bytes and their source, or the reason why there are none.

    Attributes:
        value: bytes, or ``None``.
        source: how they were read.
        confidence: ``high``, or ``low`` if they may belong to another process.
        reason: the reason why ``value`` is ``None``.
    """

    value: int | None = None
    source: str | None = None
    confidence: str | None = None
    reason: str | None = None


class Process(NamedTuple):
    """A compute process on a device. ``used_bytes`` is ``None`` if the driver does not report it."""

    pid: int
    used_bytes: int | None


class Nvml:
    """The opened library.

    Raises:
        NvmlProblem: there is no binding, library or driver.
    """

    def __init__(self) -> None:
        try:
            self._pynvml = importlib.import_module("pynvml")
        except ImportError as error:
            raise NvmlProblem("no_binding: the package nvidia-ml-py is not installed") from error
        if not hasattr(self._pynvml, "nvmlMemory_v2"):
            raise NvmlProblem(OLD_BINDING)
        self.call("nvmlInit")

    def call(self, function: str, *arguments: Any, **options: Any) -> Any:
        """Call a function of the binding.

        Raises:
            NvmlProblem: it failed, or the binding is older than the function.
        """
        call: Callable[..., Any] | None = getattr(self._pynvml, function, None)
        if call is None:
            raise NvmlProblem(f"{OLD_BINDING} ({function})")
        try:
            return call(*arguments, **options)
        except self._pynvml.NVMLError as error:
            known = PROBLEMS.get(type(error).__name__)
            raise NvmlProblem(f"{known} ({function})" if known else f"nvml_error: {function}: {error}") from error
        except (TypeError, AttributeError) as error:  # a binding with other arguments, such as bytes for text
            raise NvmlProblem(f"{OLD_BINDING} ({function}: {error})") from error

    def constant(self, name: str) -> Any:
        """Return a constant of the binding.

        Raises:
            NvmlProblem: the binding is older than the constant.
        """
        if not hasattr(self._pynvml, name):
            raise NvmlProblem(f"{OLD_BINDING} ({name})")
        return getattr(self._pynvml, name)

    def device(self, uuid: str, index: int = 0) -> Any:
        """Return the handle of the device that CUDA calls ``uuid``. The numbers of NVML differ from those of CUDA.

        Args:
            uuid: as torch reports it, without a prefix.
            index: torch's number of the device, to find a MIG slice in ``CUDA_VISIBLE_DEVICES``.

        Raises:
            NvmlProblem: NVML has no such device.
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
        """Return the compute processes of a device. In a container the PIDs may be those of the host.

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
        """Return the PIDs on all devices, without devices that do not list theirs.

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
    """Return the used bytes of a device: version 2, without memory reserved by the driver, or else version 1.

    Only differences between readings of one source are meaningful.
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
    """Return the bytes that NVML attributes to this process.

    The process is found by its PID. If NVML lists host PIDs (a container), the one process that has
    appeared since ``known_pids`` is used, with low confidence.

    Args:
        nvml: the library.
        handle: the device.
        known_pids: all PIDs before this process had a CUDA context. ``None``: not read at that time.
    """
    try:
        processes = nvml.processes(handle)
    except NvmlProblem as error:
        return Quantity(reason=str(error))
    # A process from before our context is not ours, even with our PID, which is then of another namespace.
    new = [process for process in processes if process.pid not in (known_pids or ())]
    mine = [process for process in new if process.pid == os.getpid()]
    if mine:
        return _told(mine[0], source="nvml_pid", confidence="high")
    if known_pids is not None and len(new) == 1:
        return _told(new[0], source="nvml_only_new_process", confidence="low")
    since = "PIDs were not read before our context" if known_pids is None else f"{len(new)} appeared since our context"
    return Quantity(
        reason=f"pid_namespace: none of the {len(processes)} processes that NVML lists has our PID, and {since}"
    )


def _told(process: Process, *, source: str, confidence: str) -> Quantity:
    if process.used_bytes is None:
        return Quantity(reason="not_available: the driver lists this process without its memory (WDDM or WSL)")
    return Quantity(value=process.used_bytes, source=source, confidence=confidence)
