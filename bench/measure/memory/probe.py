"""Read the physical memory of this process and its device. A missing reading is null with a reason.

The levels above the policy's own count are: torch's allocator (allocated and reserved), the process
(NVML, or the resident set on a CPU) and the whole device (NVML).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bench.measure.machine.fitness import CHANGED_BY_OTHERS
from bench.measure.machine.nvml import Nvml, NvmlProblem, Quantity, device_used, process_used
from bench.measure.memory.polling import Poller
from bench.measure.memory.resident import peak_resident_bytes, reset_peak_resident, resident_bytes

if TYPE_CHECKING:
    import torch

ON_CPU = "there is no CUDA device in this point"
ROUNDING_BYTES = 2 * 2**20
"""Bytes by which NVML's reading of a device can be below that of its only process."""
NOT_POLLED = "measure.poll_ms=0: polling is off"

DEVICE_COLUMNS = (
    "torch_allocated_peak_bytes",
    "torch_reserved_peak_bytes",
    "torch_reserved_idle_bytes",
    "torch_alloc_retries",
    "device_memory_bytes",
    "device_memory_source",
)


@dataclass(kw_only=True)
class Reading:
    """Values by column name, and reasons for missing ones. ``poll`` holds milliseconds and bytes."""

    values: dict[str, Any] = field(default_factory=dict)
    null_reasons: dict[str, str] = field(default_factory=dict)
    poll: list[tuple[float, int]] = field(default_factory=list)


def pids_on_gpus() -> set[int] | None:
    """Return the PIDs on all GPUs, before this process uses one. ``None`` if NVML does not report them."""
    try:
        return Nvml().all_pids()
    except NvmlProblem:
        return None


class MemoryProbe:
    """Compares memory with an idle reading that is taken at construction, after warm-up.

    Args:
        device: the device of the point.
        known_pids: result of ``pids_on_gpus`` before there was a CUDA context.
        poll_ms: interval of a polling thread. 0: no thread.
        cuda: replacement of ``torch.cuda`` in tests.
    """

    def __init__(
        self,
        device: torch.device,
        *,
        known_pids: Collection[int] | None = None,
        poll_ms: float = 0.0,
        cuda: Any = None,
    ) -> None:
        self._level = CudaLevels(device, known_pids, cuda) if device.type == "cuda" else HostLevels()
        self._poller = Poller(self._level.rise, poll_ms) if poll_ms > 0 else None

    def read(self) -> Reading:
        """Return the peaks since construction, while all memory is still held."""
        reading = self._level.read()
        if self._poller is None:
            reading.null_reasons["polled_peak_rise_bytes"] = NOT_POLLED
            return reading
        reading.poll = self._poller.stop()
        if reading.poll:
            reading.values["polled_peak_rise_bytes"] = max(value for _, value in reading.poll)
        else:
            reading.null_reasons["polled_peak_rise_bytes"] = "no value could be polled"
        return reading


class HostLevels:
    """Levels on a CPU: the peak resident set of this process, and its rise above the idle reading."""

    def __init__(self) -> None:
        reset_peak_resident()
        self._idle = resident_bytes()

    def rise(self) -> int:
        """Return the bytes above the idle reading, now."""
        return resident_bytes() - self._idle

    def read(self) -> Reading:
        """Return the peaks since construction."""
        peak = peak_resident_bytes()
        return Reading(
            values={
                "process_memory_bytes": peak,
                "process_memory_rise_bytes": peak - self._idle,
                "process_memory_source": "resident_set",
                "process_memory_confidence": "high",
            },
            null_reasons=dict.fromkeys(DEVICE_COLUMNS, ON_CPU),
        )


class CudaLevels:
    """Levels on CUDA: torch's allocator, the process in NVML and the device in NVML."""

    def __init__(self, device: torch.device, known_pids: Collection[int] | None, cuda: Any) -> None:
        if cuda is None:
            import torch

            cuda = torch.cuda
        self._device, self._known_pids, self._cuda = device, known_pids, cuda
        cuda.synchronize(device)
        cuda.empty_cache()
        cuda.reset_peak_memory_stats(device)
        self._nvml: Nvml | None = None
        self._handle: Any = None
        self._problem: str | None = None
        try:
            self._nvml = Nvml()
            self._handle = self._nvml.device(str(cuda.get_device_properties(device).uuid), device.index or 0)
        except NvmlProblem as problem:
            self._problem = str(problem)
        self._idle_retries = self._retries()
        self._idle_reserved = int(cuda.memory_reserved(device))
        self._idle_process, self._idle_device = self._process(), self._device_used()

    def rise(self) -> int | None:
        """Return the bytes of the device above the idle reading, now."""
        return rise_of_device(difference(self._device_used(), self._idle_device), Quantity()).value

    def read(self) -> Reading:
        """Return torch's peaks since construction, and the current bytes of process and device."""
        self._cuda.synchronize(self._device)
        reading = Reading(
            values={
                "torch_allocated_peak_bytes": int(self._cuda.max_memory_allocated(self._device)),
                "torch_reserved_peak_bytes": int(self._cuda.max_memory_reserved(self._device)),
                "torch_reserved_idle_bytes": self._idle_reserved,
                "torch_alloc_retries": self._retries() - self._idle_retries,
            }
        )
        process = self._process()
        rise = difference(process, self._idle_process)
        device = rise_of_device(difference(self._device_used(), self._idle_device), rise)
        _note(reading, process, process_memory_bytes=process.value, process_memory_source=process.source,
              process_memory_confidence=process.confidence)  # fmt: skip
        _note(reading, rise, process_memory_rise_bytes=rise.value)
        _note(reading, device, device_memory_bytes=device.value, device_memory_source=device.source)
        return reading

    def _retries(self) -> int:
        return int(self._cuda.memory_stats(self._device).get("num_alloc_retries", 0))

    def _process(self) -> Quantity:
        if self._nvml is None or self._problem is not None:
            return Quantity(reason=self._problem)
        return process_used(self._nvml, self._handle, self._known_pids)

    def _device_used(self) -> Quantity:
        """Return NVML's reading. If it has none, return the driver's count, with the reason in its source."""
        told = Quantity(reason=self._problem)
        if self._nvml is not None and self._problem is None:
            told = device_used(self._nvml, self._handle)
            if told.value is not None:
                return told
        free, total = self._cuda.mem_get_info(self._device)
        why = (told.reason or "").partition(":")[0]
        return Quantity(value=int(total - free), source=f"mem_get_info ({why})", confidence="high")


def difference(now: Quantity, idle: Quantity) -> Quantity:
    """Return ``now`` above ``idle``, or a reason if either is missing or their sources differ."""
    for quantity in (now, idle):
        if quantity.value is None:
            return Quantity(reason=quantity.reason)
    if now.source != idle.source:
        return Quantity(reason=f"changed_source: the idle reading is from {idle.source}, the later from {now.source}")
    return Quantity(value=(now.value or 0) - (idle.value or 0), source=now.source, confidence=now.confidence)


def rise_of_device(device: Quantity, process: Quantity) -> Quantity:
    """Return the rise of the device, or a reason if other processes have released memory in the meantime.

    Args:
        device: used memory of the device above the idle reading.
        process: that of this process, as far as it is known.
    """
    if device.value is None or device.value >= max((process.value or 0) - ROUNDING_BYTES, 0):
        return device
    less = "at the idle reading" if device.value < 0 else "the idle reading and this process together"
    return Quantity(reason=f"{CHANGED_BY_OTHERS}: another process released memory. The device holds less than {less}")


def _note(reading: Reading, quantity: Quantity, **columns: int | str | None) -> None:
    """Add the columns of one quantity, or its reason for each of them."""
    if quantity.value is None:
        reading.null_reasons |= dict.fromkeys(columns, str(quantity.reason))
    else:
        reading.values |= columns
